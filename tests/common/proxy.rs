//! A proxy in front of the S3 server that does to requests what networks and busy stores do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use twotower::kernels::random::splitmix64;

/// What is done to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    None,
    /// Answered in the store's place: 503 SlowDown, 429, 403 ExpiredToken.
    Unavailable,
    TooMany,
    Expired,
    /// The connection is reset, and the request never gets through.
    Reset,
    /// The request gets through, and its answer is lost.
    LostAnswer,
    /// It gets through after that time.
    Stall(Duration),
    /// The answer breaks off in the middle of its body.
    Cut,
    /// The same, with a length that says that all is there.
    CutWithoutASign,
}

/// One request, as the plan of faults sees it.
pub struct Asked<'a> {
    /// How many came before.
    pub number: u64,
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Whether a part of an object is asked for.
    pub range: bool,
    /// Whether it would create an object only where there is none.
    pub create: bool,
}

impl Asked<'_> {
    /// A number in 0..100 that the seed and the request's number decide.
    pub fn percent(&self, seed: u64) -> u64 {
        splitmix64(seed << 32 ^ self.number) % 100
    }

    pub fn is_write(&self) -> bool {
        self.method != "GET" && self.method != "HEAD"
    }
}

type Plan = dyn Fn(&Asked<'_>) -> Fault + Send + Sync;

pub struct Proxy {
    pub url: String,
    /// Every request with what was done to it.
    pub done: Arc<Mutex<Vec<(String, Fault)>>>,
    _runtime: Runtime,
}

impl Proxy {
    /// In front of `upstream`, `http://127.0.0.1:PORT`.
    pub fn start(upstream: &str, plan: impl Fn(&Asked<'_>) -> Fault + Send + Sync + 'static) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let upstream = upstream.trim_start_matches("http://").to_string();
        let done = Arc::new(Mutex::new(Vec::new()));
        let (plan, numbers, log): (Arc<Plan>, _, _) = (Arc::new(plan), Arc::new(AtomicU64::new(0)), done.clone());
        runtime.spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let (upstream, plan, numbers, log) = (upstream.clone(), plan.clone(), numbers.clone(), log.clone());
                tokio::spawn(async move {
                    let _ = serve(client, &upstream, &*plan, &numbers, &log).await;
                });
            }
        });
        Proxy { url, done, _runtime: runtime }
    }

    /// How many requests met a fault of this kind.
    pub fn count(&self, is: impl Fn(Fault) -> bool) -> usize {
        self.done.lock().unwrap().iter().filter(|(_, fault)| is(*fault)).count()
    }
}

/// The requests of one connection, one after another.
async fn serve(
    mut client: TcpStream,
    upstream: &str,
    plan: &Plan,
    numbers: &AtomicU64,
    log: &Mutex<Vec<(String, Fault)>>,
) -> std::io::Result<()> {
    let mut waiting = Vec::new();
    while let Some((head, body)) = read_request(&mut client, &mut waiting).await? {
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (range, create) = (field(&head, "range").is_some(), field(&head, "if-none-match").is_some());
        let number = numbers.fetch_add(1, Ordering::SeqCst);
        let fault = plan(&Asked { number, method, target, range, create });
        log.lock().unwrap().push((format!("{method} {target}"), fault));
        let refuse = |status: &str, code: &str| {
            let xml =
                format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>from the proxy</Message></Error>");
            format!("HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {}\r\n\r\n{xml}", xml.len())
        };
        let answer = match fault {
            Fault::Unavailable => refuse("503 Service Unavailable", "SlowDown").into_bytes(),
            Fault::TooMany => refuse("429 Too Many Requests", "TooManyRequests").into_bytes(),
            Fault::Expired => refuse("403 Forbidden", "ExpiredToken").into_bytes(),
            Fault::Reset => return reset(client),
            Fault::Stall(time) => {
                tokio::time::sleep(time).await;
                forward(upstream, &head, &body).await?
            }
            _ => forward(upstream, &head, &body).await?,
        };
        match fault {
            Fault::LostAnswer => return reset(client),
            Fault::Cut => {
                let (head, body) = split(&answer);
                client.write_all(&answer[..head + body / 2]).await?;
                client.flush().await?;
                return Ok(());
            }
            Fault::CutWithoutASign => {
                let (head, body) = split(&answer);
                let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
                let text =
                    text.replace(&format!("content-length: {body}\r\n"), &format!("content-length: {}\r\n", body / 2));
                client.write_all(text.as_bytes()).await?;
                client.write_all(&answer[head..head + body / 2]).await?;
            }
            _ => client.write_all(&answer).await?,
        }
    }
    Ok(())
}

/// Length of an answer's head, and of its body.
fn split(answer: &[u8]) -> (usize, usize) {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    (head, answer.len() - head)
}

fn reset(client: TcpStream) -> std::io::Result<()> {
    // without a farewell
    client.set_zero_linger()
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Head and body of the next request; `None` when the client is done.
async fn read_request(client: &mut TcpStream, waiting: &mut Vec<u8>) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let head = loop {
        if let Some(at) = waiting.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if client.read_buf(waiting).await? == 0 {
            return Ok(None);
        }
    };
    let text = String::from_utf8_lossy(&waiting[..head]).into_owned();
    let length: usize = field(&text, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while waiting.len() < head + length {
        if client.read_buf(waiting).await? == 0 {
            return Ok(None);
        }
    }
    let rest = waiting.split_off(head + length);
    let body = waiting.split_off(head);
    *waiting = rest;
    Ok(Some((text, body)))
}

/// The store's whole answer, made fit for a connection that stays open.
async fn forward(upstream: &str, head: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut store = TcpStream::connect(upstream).await?;
    let head = head.trim_end_matches("\r\n");
    store.write_all(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes()).await?;
    store.write_all(body).await?;
    let mut answer = Vec::new();
    store.read_to_end(&mut answer).await?;
    let (end, _) = split(&answer);
    let text = String::from_utf8_lossy(&answer[..end]).into_owned();
    let kept: Vec<&str> =
        text.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("connection:")).collect();
    Ok([kept.join("\r\n").as_bytes(), &answer[end..]].concat())
}
