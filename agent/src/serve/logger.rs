//! SPIRE's agent logger API: how much the process logs, for the owner of the admin socket.

use std::{fmt, sync::Arc};

pub use sekisho_spire_api::types::LogLevel as Level;
use sekisho_spire_api::{
    agent::logger::{
        GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest, logger_server::Logger as Api,
    },
    types::Logger,
};
use tonic::{Request, Response, Status};

/// How much the process logs: what the binary gives, which has set its log up.
pub trait LogLevel: fmt::Debug + Send + Sync {
    /// Now.
    fn now(&self) -> Level;
    /// When the process began.
    fn at_start(&self) -> Level;
    /// From now on. `PANIC` and `FATAL` mean as little as can be.
    ///
    /// # Errors
    /// What the log says, where it cannot be changed.
    fn set(&self, level: Level) -> Result<(), String>;
}

/// The service.
#[derive(Debug)]
pub(super) struct Service(Arc<dyn LogLevel>);

impl Service {
    pub(super) const fn new(log: Arc<dyn LogLevel>) -> Self {
        Self(log)
    }

    fn told(&self) -> Response<Logger> {
        Response::new(Logger {
            current_level: self.0.now().into(),
            launch_level: self.0.at_start().into(),
        })
    }

    fn set(&self, level: Level) -> Result<Response<Logger>, Status> {
        // Before it counts: a log that says less from here on says so.
        tracing::warn!(level = level.as_str_name(), "log level set on request");
        self.0
            .set(level)
            .map_err(|error| Status::internal(format!("failed to set log level: {error}")))?;
        Ok(self.told())
    }
}

#[tonic::async_trait]
impl Api for Service {
    async fn get_logger(&self, _: Request<GetLoggerRequest>) -> Result<Response<Logger>, Status> {
        Ok(self.told())
    }

    async fn set_log_level(
        &self,
        request: Request<SetLogLevelRequest>,
    ) -> Result<Response<Logger>, Status> {
        let sent = request.into_inner().new_level;
        match Level::try_from(sent) {
            Ok(Level::Unspecified) => Err(Status::invalid_argument(
                "Invalid request NewLevel value cannot be LogLevel_UNSPECIFIED",
            )),
            Ok(level) => self.set(level),
            Err(_) => Err(Status::invalid_argument(format!(
                "unsupported log level: {sent}"
            ))),
        }
    }

    async fn reset_log_level(
        &self,
        _: Request<ResetLogLevelRequest>,
    ) -> Result<Response<Logger>, Status> {
        self.set(self.0.at_start())
    }
}
