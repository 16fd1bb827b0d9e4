//! An S3 server over a folder whose subfolders are its buckets, for benches/scale: `s3 FOLDER KEY SECRET` prints its URL and serves.

use hyper_util::rt::{TokioExecutor, TokioIo};

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, key, secret] = &arguments[..] else { panic!("s3 FOLDER KEY SECRET") };
    let mut builder = s3s::service::S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder).expect("a folder"));
    builder.set_auth(s3s::auth::SimpleAuth::from_single(key.as_str(), secret.as_str()));
    let service = builder.build();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("http://{}", listener.local_addr().expect("it is bound"));
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let connection = server.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
        tokio::spawn(async move {
            let _ = connection.await;
        });
    }
}
