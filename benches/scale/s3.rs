//! The tests' S3 server, for benches/scale: `s3 FOLDER KEY SECRET` prints its URL and serves the folder.

#[path = "../../tests/common/s3.rs"]
mod server;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, key, secret] = &arguments[..] else { panic!("s3 FOLDER KEY SECRET") };
    let service = server::service(folder.as_ref(), key, secret);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("http://{}", listener.local_addr().expect("it is bound"));
    server::serve(listener, service).await;
}
