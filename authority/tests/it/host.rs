//! What is there for administrators of this host only: health and log.

use std::time::{Duration, SystemTime};

use sekisho_certs::Clock as _;
use sekisho_spire_api::{
    server::{
        debug::{GetInfoRequest, debug_client::DebugClient},
        logger::{
            GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest, logger_client::LoggerClient,
        },
    },
    types::LogLevel,
};
use tonic::{Code, Request, client::Grpc};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tonic_prost::ProstCodec;

use crate::harness::{World, spiffe_id};

#[tokio::test]
async fn health_is_that_of_the_whole() {
    let world = World::start().await;
    let mut client = HealthClient::new(world.local().await);
    let check = |service: &str| HealthCheckRequest {
        service: service.into(),
    };
    let well = client.check(check("")).await.unwrap().into_inner();
    assert_eq!(well.status, 1);
    let part = client.check(check("spire.api.server.agent.v1.Agent")).await;
    assert_eq!(part.unwrap_err().code(), Code::InvalidArgument);
    let mut raw = Grpc::new(world.local().await);
    raw.ready().await.unwrap();
    let path = "/grpc.health.v1.Health/List".parse().unwrap();
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let list = raw.unary(Request::new(check("")), path, codec).await;
    assert_eq!(list.unwrap_err().code(), Code::Unimplemented);
    let watch = client.watch(check("")).await;
    assert_eq!(watch.unwrap_err().code(), Code::Unimplemented);
    // Its CA ends before it has looked at the clock.
    world.clock.advance(Duration::from_secs(25 * 3600));
    let ill = client.check(check("")).await.unwrap().into_inner();
    assert_eq!(ill.status, 2);
    let mut afar = HealthClient::new(world.tls(None).await.unwrap());
    let refused = afar.check(check("")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    world.stop().await;
}

#[tokio::test]
async fn the_log_can_be_turned_up_and_back() {
    let world = World::start().await;
    let mut client = LoggerClient::new(world.local().await);
    let told = client.get_logger(GetLoggerRequest {}).await.unwrap();
    let told = told.into_inner();
    assert_eq!(
        (told.current_level(), told.launch_level()),
        (LogLevel::Info, LogLevel::Info)
    );
    let set = |new_level| SetLogLevelRequest { new_level };
    let told = client
        .set_log_level(set(LogLevel::Trace.into()))
        .await
        .unwrap();
    let told = told.into_inner();
    assert_eq!(
        (told.current_level(), told.launch_level()),
        (LogLevel::Trace, LogLevel::Info)
    );
    for bad in [0, 8, -1] {
        let refused = client.set_log_level(set(bad)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{bad}");
    }
    let told = client.get_logger(GetLoggerRequest {}).await.unwrap();
    assert_eq!(told.into_inner().current_level(), LogLevel::Trace);
    let told = client
        .reset_log_level(ResetLogLevelRequest {})
        .await
        .unwrap();
    assert_eq!(told.into_inner().current_level(), LogLevel::Info);
    let mut afar = LoggerClient::new(world.tls(None).await.unwrap());
    let refused = afar.get_logger(GetLoggerRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    world.stop().await;
}

#[tokio::test]
async fn the_certificate_of_the_server_is_told_as_it_is() {
    let world = World::start().await;
    let mut client = DebugClient::new(world.local().await);
    let info = client.get_info(GetInfoRequest {}).await.unwrap();
    let chain = info.into_inner().svid_chain;
    let [own] = chain.as_slice() else {
        panic!("{chain:?}");
    };
    assert_eq!(own.id, spiffe_id("/spire/server"));
    assert_eq!(own.subject, "O=SPIRE,C=US");
    // An hour, not the 24 of the CA.
    let now = world
        .clock
        .now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(own.expires_at, i64::try_from(now.as_secs() + 3600).unwrap());
    world.stop().await;
}
