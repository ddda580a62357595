//! `spire.api.server.logger.v1`: how much the process logs, for administrators of this host.

use std::{fmt, sync::Arc};

pub use sekisho_spire_api::types::LogLevel as Level;
use sekisho_spire_api::{
    server::logger::{
        GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest,
        logger_server::Logger as Service,
    },
    types::Logger,
};
use tonic::{Request, Response, Status};

use crate::{caller::Caller, core::Core};

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
#[derive(Clone, Debug)]
pub struct LoggerService {
    core: Arc<Core>,
    log: Arc<dyn LogLevel>,
}

impl LoggerService {
    /// By the handle of a log.
    #[must_use]
    pub const fn new(core: Arc<Core>, log: Arc<dyn LogLevel>) -> Self {
        Self { core, log }
    }

    fn told(&self) -> Response<Logger> {
        Response::new(Logger {
            current_level: self.log.now().into(),
            launch_level: self.log.at_start().into(),
        })
    }

    async fn set(&self, caller: &Caller, level: Level) -> Result<Response<Logger>, Status> {
        let name = level.as_str_name().to_owned();
        // A log that says less from here on is worth a line that cannot be left out.
        let by = self.core.by(caller.name());
        let noted = self.core.store.note(by, "log.level", name).await;
        noted.map_err(|error| super::status::store("failed to set log level", &error))?;
        self.log
            .set(level)
            .map_err(|error| Status::internal(format!("failed to set log level: {error}")))?;
        Ok(self.told())
    }
}

#[tonic::async_trait]
impl Service for LoggerService {
    async fn get_logger(&self, _: Request<GetLoggerRequest>) -> Result<Response<Logger>, Status> {
        Ok(self.told())
    }

    async fn set_log_level(
        &self,
        request: Request<SetLogLevelRequest>,
    ) -> Result<Response<Logger>, Status> {
        let caller = Caller::of(&request)?;
        let sent = request.into_inner().new_level;
        match Level::try_from(sent) {
            Ok(Level::Unspecified) => Err(Status::invalid_argument(
                "Invalid request NewLevel value cannot be LogLevel_UNSPECIFIED",
            )),
            Ok(level) => self.set(&caller, level).await,
            Err(_) => Err(Status::invalid_argument(format!(
                "unsupported log level: {sent}"
            ))),
        }
    }

    async fn reset_log_level(
        &self,
        request: Request<ResetLogLevelRequest>,
    ) -> Result<Response<Logger>, Status> {
        let caller = Caller::of(&request)?;
        self.set(&caller, self.log.at_start()).await
    }
}
