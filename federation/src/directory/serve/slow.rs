//! Senders who take their time, to keep others out.

use std::net::Ipv6Addr;

use tokio::time::{Interval, interval};

use super::*;
use crate::directory::{
    fixture::{Federation, Member},
    repository::Submission,
    submit::Taken,
};

/// A body that brings so many bytes a second, for ever.
struct Drops(Interval, usize);

impl Body for Drops {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Self(interval, size) = self.get_mut();
        interval
            .poll_tick(cx)
            .map(|_| Some(Ok(Frame::data(vec![b' '; *size].into()))))
    }
}

async fn post<B>(served: &Served, from: impl Into<IpAddr>, body: B) -> (u16, Option<String>)
where
    B: Body<Data = Bytes> + Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    use http_body_util::BodyExt as _;
    let request = Request::post("/submissions").body(body).unwrap();
    let answer = served.answer(from.into(), request).await;
    let status = answer.status().as_u16();
    let told = answer.into_body().collect().await.unwrap().to_bytes();
    let taken: Taken = serde_json::from_slice(&told).unwrap();
    (status, taken.reason)
}

fn word(member: &Member, here: &Federation) -> Full<Bytes> {
    let version = here.repository.next_version(&member.domain).unwrap();
    let sent = Submission::new(&member.descriptor(), version, &[&member.key], here.now());
    Full::new(sent.unwrap().to_json().unwrap().into())
}

fn slowly(
    served: &Arc<Served>,
    from: impl Into<IpAddr>,
    a_second: usize,
) -> tokio::task::JoinHandle<(u16, Option<String>, Duration)> {
    let (served, from) = (Arc::clone(served), from.into());
    tokio::spawn(async move {
        let begun = tokio::time::Instant::now();
        let body = Drops(interval(Duration::from_secs(1)), a_second);
        let (status, reason) = post(&served, from, body).await;
        (status, reason, begun.elapsed())
    })
}

#[tokio::test(start_paused = true)]
async fn who_sends_drop_by_drop_keeps_nobody_else_out() {
    let here = Federation::new(1);
    let member = here.join("tokyo.example");
    let served = Arc::new(Served::new(here.repository.clone(), here.clock.clone()).accepting());
    let slow: Vec<_> = (0..20)
        .map(|host| slowly(&served, [10, 0, 0, host], 1))
        .collect();
    // All of them have begun.
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::task::yield_now().await;
    let busy = post(&served, [10, 0, 0, 99], word(&member, &here)).await;
    assert_eq!(
        busy,
        (503, Some("busy".into())),
        "that network has its part"
    );
    let taken = post(&served, [10, 0, 1, 1], word(&member, &here)).await;
    assert_eq!(taken, (200, None), "and the others have theirs");
    let mut late = 0;
    for one in slow {
        let (_, reason, took) = one.await.unwrap();
        assert!(took < Duration::from_secs(10), "{took:?}");
        late += usize::from(reason.as_deref() == Some("late"));
    }
    assert_eq!(late, 4, "the rest was not let in");
    let again = post(&served, [10, 0, 0, 99], word(&member, &here)).await;
    assert_eq!(again, (200, None));
}

#[tokio::test(start_paused = true)]
async fn who_has_many_networks_has_the_places_of_one_site() {
    let here = Federation::new(1);
    let member = here.join("tokyo.example");
    let served = Arc::new(Served::new(here.repository.clone(), here.clock.clone()).accepting());
    let at = |site: u16, net: u16| Ipv6Addr::new(0x2001, 0xdb8, site, net, 0, 0, 0, 1);
    let slow: Vec<_> = (0..64).map(|net| slowly(&served, at(0, net), 1)).collect();
    tokio::time::advance(Duration::from_secs(1)).await;
    tokio::task::yield_now().await;
    let taken = post(&served, at(1, 0), word(&member, &here)).await;
    assert_eq!(taken, (200, None));
    let mut late = 0;
    for one in slow {
        late += usize::from(one.await.unwrap().1.as_deref() == Some("late"));
    }
    assert_eq!(late, 8, "the rest was not let in");
}

#[tokio::test(start_paused = true)]
async fn who_sends_steadily_has_its_time_and_no_more() {
    let here = Federation::new(1);
    let served = Arc::new(Served::new(here.repository.clone(), here.clock.clone()).accepting());
    let (status, reason, took) = slowly(&served, [10, 0, 0, 1], 2048).await.unwrap();
    assert_eq!((status, reason.as_deref()), (408, Some("late")));
    assert_eq!(took, Duration::from_secs(30));
    let (status, reason, _) = slowly(&served, [10, 0, 0, 1], 1 << 19).await.unwrap();
    assert_eq!((status, reason.as_deref()), (413, Some("too_large")));
}
