//! Messages by mail.

use super::settings::{MailSettings, MailTls, secret};
use super::{Channel, Message};
use crate::config::ValueError;
use futures::future::BoxFuture;
use lettre::message::Mailbox;
use lettre::message::header::ContentType;
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use std::time::Duration;

/// Longest wait for the server.
const WITHIN: Duration = Duration::from_secs(20);

type Transport = AsyncSmtpTransport<Tokio1Executor>;

pub(super) struct Mail {
    name: String,
    from: Mailbox,
    to: Vec<Mailbox>,
    transport: Transport,
    /// For messages.
    port: u16,
}

fn address(key: &'static str, text: &str) -> Result<Mailbox, ValueError> {
    text.parse().map_err(|error| ValueError::new(key, format!("\"{text}\""), &format!("{error}")))
}

/// Whether the settings can be used, apart from files.
pub(super) fn check(settings: &MailSettings) -> Result<(), ValueError> {
    address("alerts.mail.from", &settings.from)?;
    settings.to.iter().try_for_each(|to| address("alerts.mail.to", to).map(drop))?;
    if let Some((host, port)) = settings.server.rsplit_once(':')
        && !host.contains(':')
    {
        let why = format!("a name or an address is needed here; say the port by itself: port = {port}");
        return Err(ValueError::new("alerts.mail.server", format!("\"{}\"", settings.server), &why));
    }
    let wrong = |key, why: &str| Err(ValueError::new(key, String::new(), why));
    if settings.to.is_empty() {
        return wrong("alerts.mail.to", "nobody would be told");
    }
    if settings.user.is_some() != settings.password_file.is_some() {
        return wrong("alerts.mail.user", "user and password_file belong together: say both or neither");
    }
    if settings.user.is_some() && settings.tls == MailTls::Off {
        return wrong("alerts.mail.tls", "a password is not sent in the clear");
    }
    Ok(())
}

impl Mail {
    pub(super) fn new(settings: &MailSettings) -> Result<Self, ValueError> {
        check(settings)?;
        let server = &settings.server;
        let wrong = |error: lettre::transport::smtp::Error| {
            ValueError::new("alerts.mail.server", format!("\"{server}\""), &error.to_string())
        };
        let (builder, port) = match settings.tls {
            MailTls::StartTls => (Transport::starttls_relay(server).map_err(wrong)?, 587),
            MailTls::Always => (Transport::relay(server).map_err(wrong)?, 465),
            MailTls::Off => (Transport::builder_dangerous(server), 25),
        };
        let port = settings.port.unwrap_or(port);
        let mut builder = builder.port(port).timeout(Some(WITHIN));
        if let (Some(user), Some(file)) = (&settings.user, &settings.password_file) {
            let password = secret("alerts.mail.password_file", file)?;
            builder = builder.credentials(Credentials::new(user.clone(), password));
        }
        let to = settings.to.iter().map(|to| address("alerts.mail.to", to)).collect::<Result<_, _>>()?;
        let from = address("alerts.mail.from", &settings.from)?;
        Ok(Self { name: format!("mail {server}"), from, to, transport: builder.build(), port })
    }

    async fn write(&self, message: &Message) -> Result<(), String> {
        let to = self.to.iter().fold(lettre::Message::builder(), |mail, to| mail.to(to.clone()));
        let mail =
            to.from(self.from.clone()).subject(message.subject()).header(ContentType::TEXT_PLAIN).message_id(None);
        let mail = mail.body(message.text()).map_err(|error| error.to_string())?;
        self.transport.send(mail).await.map(drop).map_err(|error| self.explained(&error))
    }

    /// What the server or the system said, and where that was.
    fn explained(&self, error: &lettre::transport::smtp::Error) -> String {
        let advice = match error.status() {
            None => "; is it the right port? [alerts.mail] port and tls say how the server is reached",
            Some(_) => "",
        };
        format!("port {}: {error}{advice}", self.port)
    }
}

impl Channel for Mail {
    fn name(&self) -> &str {
        &self.name
    }

    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            match tokio::time::timeout(WITHIN * 2, self.write(message)).await {
                Ok(written) => written,
                Err(_) => Err("the server doesn't answer".into()),
            }
        })
    }
}
