//! Kubernetes' remote command protocol, in which exec and attach speak with their clients, over a WebSocket or SPDY.
//!
//! [`options`] says what the client wants, [`channels`] what the messages mean, [`stdio`] has our ends of a process's
//! descriptors and [`session`] carries bytes between the two. [`over_web_socket`] and [`over_spdy`] are the ways to the
//! client.

mod channels;
mod options;
mod over_spdy;
mod over_web_socket;
mod session;
pub mod stdio;
#[cfg(test)]
mod testing;

use axum::extract::Request;
use axum::response::Response;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;

use crate::upgrade::{Agreed, Offer, Refused, go_on, shake_hands};
use channels::Protocol;
pub use options::Options;
use session::Gone;
pub use session::Process;
use stdio::Ends;

const OFFER: Offer = Offer {
    web_sockets: channels::NAMES,
    spdy: &[channels::V4],
};

/// A client behind the handshake.
pub struct Session {
    agreed: Agreed,
    stream: TokioIo<Upgraded>,
}

/// Answers with the change of protocol; `run` goes on beside.
pub fn begin<R, F>(
    shutdown: &CancellationToken,
    mut request: Request,
    run: R,
) -> Result<Response, Refused>
where
    R: FnOnce(Session) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let (response, agreed) = shake_hands(&request, &OFFER)?;
    go_on(shutdown, &mut request, move |stream| {
        run(Session { agreed, stream })
    });
    Ok(response)
}

impl Session {
    /// `start`: once all is said that has to be before. Its error goes to the client.
    pub async fn serve<P: Process>(
        self,
        options: &Options,
        start: impl Future<Output = Result<(Ends, P), String>>,
    ) -> Result<(), Gone> {
        match self.agreed {
            Agreed::WebSocket(name) => {
                let protocol = Protocol::named(name);
                over_web_socket::serve(self.stream, protocol, options, start).await
            }
            Agreed::Spdy(_) => over_spdy::serve(self.stream, options, start).await,
        }
    }
}
