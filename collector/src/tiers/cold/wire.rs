//! What comes from an object store, an answer or a piece of one, is a sign of life.

use super::guarded::alive;
use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::body::{Body, Frame, SizeHint};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService, ReqwestConnector,
};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Connects as ever, and listens.
#[derive(Debug, Default)]
pub(super) struct Listening(ReqwestConnector);

impl HttpConnector for Listening {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Client(self.0.connect(options)?)))
    }
}

#[derive(Debug)]
struct Client(HttpClient);

impl HttpService for Client {
    fn call<'a, 'b>(&'a self, request: HttpRequest) -> BoxFuture<'b, Result<HttpResponse, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let answer = self.0.execute(request).await?;
            alive();
            Ok(answer.map(|body| HttpResponseBody::new(Pieces(body))))
        })
    }
}

/// The rest of an answer.
struct Pieces(HttpResponseBody);

impl Body for Pieces {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let piece = Pin::new(&mut self.0).poll_frame(context);
        if let Poll::Ready(Some(Ok(_))) = piece {
            alive();
        }
        piece
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}
