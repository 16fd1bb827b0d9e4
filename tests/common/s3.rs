//! An S3 server over a folder whose subfolders are its buckets; it honours If-None-Match.

use std::path::Path;

use hyper_util::rt::{TokioExecutor, TokioIo};
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;

/// What answers for the folder, to requests that are signed with this key.
pub fn service(root: &Path, key: &str, secret: &str) -> S3Service {
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).expect("a folder"));
    builder.set_auth(s3s::auth::SimpleAuth::from_single(key, secret));
    builder.build()
}

/// Answers whoever connects, for ever.
pub async fn serve(listener: TcpListener, service: S3Service) {
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let connection = server.serve_connection(TokioIo::new(socket), service.clone()).into_owned();
        tokio::spawn(async move {
            let _ = connection.await;
        });
    }
}
