//! A client on tonic.
//!
//! usage: interop SOCKET SCENARIO SANDBOX_ID SEEN_SOCKET

use std::future::Future;
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::AsyncBufReadExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status, Streaming};

mod echo {
    tonic::include_proto!("sandboxd.test.v1");
}
mod health {
    tonic::include_proto!("grpc.health.v1");
}
mod rpc {
    tonic::include_proto!("google.rpc");
}
use echo::echo_service_client::EchoServiceClient;
use echo::*;

const PATIENCE: Duration = Duration::from_secs(30);
const MESSAGE_MAX: usize = 4 << 20;
/// The largest answer of a sandbox, with its envelope.
const ROUTED_MAX: usize = 512 << 10;
const TEXT: &str = "früher 100% – 終わり";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

type Echo = EchoServiceClient<Channel>;

struct Client {
    socket: String,
    sandbox: String,
    channel: Channel,
    echo: Echo,
    seen: Echo,
}

async fn dial(socket: &str, endpoint: Endpoint) -> Channel {
    let path = socket.to_string();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.expect("connect")
}

fn endpoint() -> Endpoint {
    Endpoint::from_static("http://localhost")
}

fn pinging() -> Endpoint {
    endpoint()
        .http2_keep_alive_interval(Duration::from_millis(200))
        .keep_alive_timeout(Duration::from_secs(1))
        .keep_alive_while_idle(true)
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("took too long")
}

fn new_key() -> String {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    format!("{}-{}", std::process::id(), now.as_nanos())
}

fn ending(code: Code) -> Option<Ending> {
    Some(Ending { code: code as i32, message: TEXT.into(), details: vec![] })
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code) -> Status {
    let status = result.expect_err("the call was to fail");
    assert_eq!(status.code(), code, "{status:?}");
    status
}

impl Client {
    fn request(&self) -> EchoServiceUnaryRequest {
        EchoServiceUnaryRequest { sandbox_id: self.sandbox.clone(), ..Default::default() }
    }

    fn message(&self) -> EchoServiceChatRequest {
        EchoServiceChatRequest { sandbox_id: self.sandbox.clone(), ..Default::default() }
    }

    async fn unary(&self, request: EchoServiceUnaryRequest) -> Result<EchoServiceUnaryResponse, Status> {
        let answer = in_time(self.echo.clone().unary(request)).await?;
        Ok(answer.into_inner())
    }

    async fn count(&self, mut request: EchoServiceCountRequest) -> Streaming<EchoServiceCountResponse> {
        request.sandbox_id = self.sandbox.clone();
        in_time(self.echo.clone().count(request)).await.unwrap().into_inner()
    }

    async fn await_seen(&self, key: &str, what: &str, wanted: impl Fn(&EchoServiceSeenResponse) -> bool) {
        let start = Instant::now();
        loop {
            let request = EchoServiceSeenRequest { key: key.into() };
            let seen = in_time(self.seen.clone().seen(request)).await.unwrap().into_inner();
            if wanted(&seen) {
                return;
            }
            assert!(start.elapsed().as_secs() < 10, "the server never saw the call {what}: {seen:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether the server that answers a unary call learns that it was cancelled. Between servers
    /// that is ttrpc, which has no word for it: there a deadline, or the connection's end.
    fn cancel_reaches(&self) -> bool {
        self.sandbox.is_empty()
    }

    async fn await_cancelled(&self, key: &str) {
        self.await_seen(key, "cancelled", |s| s.cancelled == 1 && s.finished == 1).await;
    }
}

/// Sends when it is told, takes when it is told.
struct Chat {
    sender: Option<mpsc::Sender<EchoServiceChatRequest>>,
    answers: Streaming<EchoServiceChatResponse>,
}

impl Chat {
    /// Some servers answer with headers only when they have a message to send.
    async fn start(client: &Client, first: EchoServiceChatRequest) -> Chat {
        let (sender, receiver) = mpsc::channel(16);
        sender.send(first).await.unwrap();
        let call = client.echo.clone().chat(ReceiverStream::new(receiver)).await;
        let mut answers = call.unwrap().into_inner();
        assert_eq!(in_time(answers.message()).await.unwrap().unwrap().number, 0);
        Chat { sender: Some(sender), answers }
    }

    async fn exchange(&mut self, message: EchoServiceChatRequest) -> Result<EchoServiceChatResponse, Status> {
        self.sender.as_ref().unwrap().send(message).await.unwrap();
        Ok(in_time(self.answers.message()).await?.expect("an answer"))
    }

    async fn finish(mut self) {
        self.sender = None;
        assert_eq!(in_time(self.answers.message()).await.unwrap(), None, "there is more");
    }
}

async fn unary(c: &Client) {
    let payload = b"\0payload\xff".to_vec();
    let request = EchoServiceUnaryRequest { payload: payload.clone(), ..c.request() };
    assert_eq!(c.unary(request).await.unwrap().payload, payload);
    let response = c.unary(c.request()).await.unwrap();
    assert!(response.payload.is_empty());
    assert_eq!(response.timeout_nanos, 0);
}

async fn metadata(c: &Client) {
    let key = new_key();
    let mut request = Request::new(EchoServiceUnaryRequest { key: key.clone(), ..c.request() });
    let metadata = request.metadata_mut();
    metadata.insert("x-plain", "some value".parse().unwrap());
    metadata.insert("traceparent", PARENT.parse().unwrap());
    metadata.insert_bin("x-raw-bin", MetadataValue::from_bytes(b"\xff\0\x80"));
    let got = in_time(c.echo.clone().unary(request)).await.unwrap().into_inner().metadata;
    assert_eq!(got["traceparent"], PARENT);
    if c.sandbox.is_empty() {
        assert_eq!(got["x-plain"], "some value");
        assert_eq!(got["x-raw-bin"].trim_end_matches('='), "/wCA"); // as on the wire
    } else {
        assert_eq!(got.len(), 1, "what may be a secret is not for a sandbox: {got:?}");
    }
    c.await_seen(&key, "with its traceparent", |s| s.traceparent == PARENT).await;
}

async fn error(c: &Client) {
    let request = EchoServiceUnaryRequest { ending: ending(Code::FailedPrecondition), ..c.request() };
    let status = refused(c.unary(request).await, Code::FailedPrecondition);
    assert_eq!(status.message(), TEXT);
}

async fn details(c: &Client) {
    let one = prost_types::Any {
        type_url: "type.googleapis.com/sandboxd.test.v1.EchoServiceSeenRequest".into(),
        value: EchoServiceSeenRequest { key: TEXT.into() }.encode_to_vec(),
    };
    let mut wanted = ending(Code::Aborted).unwrap();
    wanted.details = vec![one.clone(), one.clone()];
    let request = EchoServiceUnaryRequest { ending: Some(wanted), ..c.request() };
    let status = refused(c.unary(request).await, Code::Aborted);
    assert_eq!(status.message(), TEXT);
    let got = rpc::Status::decode(status.details()).unwrap();
    assert_eq!((got.code, got.message.as_str()), (10, TEXT));
    assert_eq!(got.details, [one.clone(), one]);
}

async fn deadline(c: &Client) {
    let key = new_key();
    let mut request =
        Request::new(EchoServiceUnaryRequest { hang: true, key: key.clone(), ..c.request() });
    request.set_timeout(Duration::from_millis(300));
    let start = Instant::now();
    let result = in_time(c.echo.clone().unary(request)).await;
    // The library's own clock says that it was cancelled, the server's answer that it took too long.
    let status = result.expect_err("the call was to fail");
    assert!([Code::Cancelled, Code::DeadlineExceeded].contains(&status.code()), "{status:?}");
    assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    c.await_cancelled(&key).await;
}

async fn timeout_seen(c: &Client) {
    let mut request = Request::new(c.request());
    request.set_timeout(Duration::from_secs(20));
    let left = in_time(c.echo.clone().unary(request)).await.unwrap().into_inner().timeout_nanos;
    assert!(left > 10_000_000_000 && left <= 20_000_000_000, "left: {left}");
}

async fn cancel(c: &Client) {
    let key = new_key();
    let request = EchoServiceUnaryRequest { hang: true, key: key.clone(), ..c.request() };
    let mut echo = c.echo.clone();
    let call = tokio::spawn(async move { echo.unary(request).await });
    c.await_seen(&key, "start", |s| s.started == 1).await;
    call.abort();
    if c.cancel_reaches() {
        c.await_cancelled(&key).await;
    }
    c.unary(c.request()).await.unwrap();
}

async fn stream(c: &Client) {
    let mut all = c.count(EchoServiceCountRequest { count: 1000, size: 10, ..Default::default() }).await;
    for i in 0..1000 {
        let response = in_time(all.message()).await.unwrap().unwrap();
        assert_eq!((response.number, response.payload.len()), (i, 10));
    }
    assert_eq!(in_time(all.message()).await.unwrap(), None);
}

/// 64 MiB, through pauses, and other calls on the same connection meanwhile.
async fn stream_slow(c: &Client) {
    let request = EchoServiceCountRequest { count: 1024, size: 64 << 10, ..Default::default() };
    let mut all = c.count(request).await;
    for i in 0..1024 {
        if i % 128 == 0 {
            sleep(Duration::from_millis(50)).await;
            c.unary(c.request()).await.unwrap();
        }
        let response = in_time(all.message()).await.unwrap().unwrap();
        assert_eq!((response.number, response.payload.len()), (i, 64 << 10));
    }
    assert_eq!(in_time(all.message()).await.unwrap(), None);
}

async fn stream_error(c: &Client) {
    let request =
        EchoServiceCountRequest { count: 10, ending: ending(Code::DataLoss), ..Default::default() };
    let mut failing = c.count(request).await;
    for i in 0..10 {
        assert_eq!(in_time(failing.message()).await.unwrap().unwrap().number, i);
    }
    let status = refused(in_time(failing.message()).await, Code::DataLoss);
    assert_eq!(status.message(), TEXT);
}

async fn stream_cancel(c: &Client) {
    let key = new_key();
    let request = EchoServiceCountRequest { size: 1000, key: key.clone(), ..Default::default() };
    let mut endless = c.count(request).await;
    for i in 0..10 {
        assert_eq!(in_time(endless.message()).await.unwrap().unwrap().number, i);
    }
    drop(endless);
    c.await_cancelled(&key).await;
    c.unary(c.request()).await.unwrap();
}

async fn sum_of(c: &Client, messages: impl Iterator<Item = EchoServiceSumRequest> + Send + 'static) -> (u64, u64) {
    let call = c.echo.clone().sum(tokio_stream::iter(messages)).await;
    let response = call.unwrap().into_inner();
    (response.messages, response.bytes)
}

fn to_sum(sandbox: &str, size: usize, pause_millis: u32) -> EchoServiceSumRequest {
    EchoServiceSumRequest {
        sandbox_id: sandbox.into(),
        payload: vec![0; size],
        pause_millis,
        ..Default::default()
    }
}

async fn sum(c: &Client) {
    let sandbox = c.sandbox.clone();
    let messages = (0..1000).map(move |i| to_sum(&sandbox, i, 0));
    assert_eq!(in_time(sum_of(c, messages)).await, (1000, 999 * 500));
}

async fn sum_none(c: &Client) {
    assert_eq!(in_time(sum_of(c, std::iter::empty())).await, (0, 0));
}

/// 8 MiB to a handler that does not take them at first.
async fn sum_slow(c: &Client) {
    let first = std::iter::once(to_sum(&c.sandbox, 0, 500));
    let messages = first.chain((0..128).map(|_| to_sum("", 64 << 10, 0)));
    assert_eq!(in_time(sum_of(c, messages)).await, (129, 8 << 20));
}

async fn chat(c: &Client) {
    let mut talk = Chat::start(c, c.message()).await;
    for i in 1..1000 {
        let payload = i.to_string().into_bytes();
        let message = EchoServiceChatRequest { payload: payload.clone(), ..c.message() };
        let response = talk.exchange(message).await.unwrap();
        assert_eq!((response.number, response.payload), (i, payload));
    }
    talk.finish().await;
}

/// The answers come although the client's side is closed.
async fn chat_half_close(c: &Client) {
    let messages: Vec<_> = (0..10).map(|_| c.message()).collect();
    let call = in_time(c.echo.clone().chat(tokio_stream::iter(messages))).await;
    let mut answers = call.unwrap().into_inner();
    for i in 0..10 {
        assert_eq!(in_time(answers.message()).await.unwrap().unwrap().number, i);
    }
    assert_eq!(in_time(answers.message()).await.unwrap(), None);
}

/// The server ends the call while the client still sends.
async fn chat_error(c: &Client) {
    let mut talk = Chat::start(c, c.message()).await;
    let message = EchoServiceChatRequest { ending: ending(Code::OutOfRange), ..c.message() };
    let status = refused(talk.exchange(message).await, Code::OutOfRange);
    assert_eq!(status.message(), TEXT);
    c.unary(c.request()).await.unwrap();
}

/// A request that is so large when serialized.
fn sized(c: &Client, size: usize) -> EchoServiceUnaryRequest {
    let mut request = EchoServiceUnaryRequest { response_size: 1, ..c.request() };
    request.payload = vec![0; size - 64];
    request.payload = vec![0; 2 * size - 64 - request.encoded_len()];
    assert_eq!(request.encoded_len(), size);
    request
}

/// A call whose answer is so large when serialized.
async fn answered(c: &Client, size: usize) -> Result<EchoServiceUnaryResponse, Status> {
    let ask = |size| EchoServiceUnaryRequest { response_size: size as u32, ..c.request() };
    let response = c.unary(ask(size - 4096)).await.unwrap();
    c.unary(ask(2 * size - 4096 - response.encoded_len())).await
}

async fn largest(c: &Client) {
    c.unary(sized(c, MESSAGE_MAX)).await.unwrap();
    assert_eq!(answered(c, MESSAGE_MAX).await.unwrap().encoded_len(), MESSAGE_MAX);
}

/// Of requests only: what is wrong with too large an answer the library calls OUT_OF_RANGE.
async fn too_large(c: &Client) {
    refused(c.unary(sized(c, MESSAGE_MAX + 1)).await, Code::ResourceExhausted);
    c.unary(c.request()).await.unwrap();
}

/// Inside, ttrpc's envelope needs some of the 4 MiB, and answers are smaller.
async fn routed_limit(c: &Client) {
    c.unary(sized(c, MESSAGE_MAX - 16384)).await.unwrap();
    refused(c.unary(sized(c, MESSAGE_MAX)).await, Code::ResourceExhausted);
    let size = ROUTED_MAX - 16;
    assert_eq!(answered(c, size).await.unwrap().encoded_len(), size);
    refused(answered(c, ROUTED_MAX).await, Code::ResourceExhausted);
    c.unary(c.request()).await.unwrap();
}

/// 1000 calls on one connection that end, then 1000 that are in flight together.
async fn concurrent(c: &Client) {
    let start = |request: EchoServiceUnaryRequest| {
        let mut echo = c.echo.clone();
        tokio::spawn(async move { echo.unary(request).await })
    };
    let payload = |i: i32| i.to_string().into_bytes();
    let calls: Vec<_> = (0..1000)
        .map(|i| start(EchoServiceUnaryRequest { payload: payload(i), ..c.request() }))
        .collect();
    for (i, call) in (0..).zip(calls) {
        assert_eq!(in_time(call).await.unwrap().unwrap().into_inner().payload, payload(i));
    }
    let key = new_key();
    let hanging: Vec<_> = (0..1000)
        .map(|_| start(EchoServiceUnaryRequest { hang: true, key: key.clone(), ..c.request() }))
        .collect();
    c.await_seen(&key, "start 1000 times", |s| s.started == 1000).await;
    hanging.iter().for_each(|call| call.abort());
    if c.cancel_reaches() {
        c.await_seen(&key, "cancelled 1000 times", |s| s.cancelled == 1000).await;
    }
    c.unary(c.request()).await.unwrap();
}

/// 1000 at once, each with a call.
async fn connections(c: &Client) {
    let mut clients = Vec::new();
    for _ in 0..1000 {
        clients.push(EchoServiceClient::new(dial(&c.socket, endpoint()).await));
    }
    for _ in 0..2 {
        let calls: Vec<_> = clients
            .iter()
            .map(|client| {
                let (mut client, request) = (client.clone(), c.request());
                tokio::spawn(async move { client.unary(request).await })
            })
            .collect();
        for call in calls {
            in_time(call).await.unwrap().unwrap();
        }
    }
}

async fn unimplemented(c: &Client) {
    for path in ["/sandboxd.test.v1.EchoService/None", "/no.such.Service/Unary"] {
        let mut raw = tonic::client::Grpc::new(c.channel.clone());
        raw.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<EchoServiceUnaryRequest, EchoServiceUnaryResponse>::default();
        let call = raw.unary(Request::new(c.request()), path.parse().unwrap(), codec);
        refused(in_time(call).await, Code::Unimplemented);
    }
    c.unary(c.request()).await.unwrap();
}

async fn compressed(c: &Client) {
    let mut gzip = EchoServiceClient::new(c.channel.clone()).send_compressed(CompressionEncoding::Gzip);
    let request = EchoServiceUnaryRequest { payload: vec![0; 10000], ..c.request() };
    let status = refused(in_time(gzip.unary(request)).await, Code::Unimplemented);
    assert!(status.message().contains("identity"), "{status:?}");
    c.unary(c.request()).await.unwrap();
}

/// Ten pings in two seconds while a call is in flight, and some without.
async fn keepalive(c: &Client) {
    let mut echo = EchoServiceClient::new(dial(&c.socket, pinging()).await);
    let request = EchoServiceUnaryRequest { hang: true, ..c.request() };
    let result = timeout(Duration::from_secs(2), echo.unary(request)).await;
    assert!(result.is_err(), "the call ended: {result:?}");
    sleep(Duration::from_millis(500)).await;
    in_time(echo.unary(c.request())).await.unwrap();
}

async fn health(c: &Client) {
    use health::health_check_response::ServingStatus::{self, *};
    let mut client = health::health_client::HealthClient::new(c.channel.clone());
    let request = |service: &str| health::HealthCheckRequest { service: service.into() };
    for (service, state) in
        [("", Serving), ("sandboxd.test.v1.EchoService", Serving), ("no.such.Service", ServiceUnknown)]
    {
        let checked = in_time(client.check(request(service))).await;
        if state == ServiceUnknown {
            refused(checked, Code::NotFound);
        } else {
            assert_eq!(checked.unwrap().into_inner().status(), state);
        }
        let mut watch = in_time(client.watch(request(service))).await.unwrap().into_inner();
        let got: ServingStatus = in_time(watch.message()).await.unwrap().unwrap().status();
        assert_eq!(got, state);
    }
}

/// A stream is under way when the server is told to stop.
async fn shutdown(c: &Client) {
    let mut talk = Chat::start(c, c.message()).await;
    println!("under way");
    let mut line = String::new();
    tokio::io::BufReader::new(tokio::io::stdin()).read_line(&mut line).await.unwrap();
    // For a moment the server may still take a call that crosses its GOAWAY; and while the library
    // deals with that, it tells of it with other codes.
    let start = Instant::now();
    loop {
        let result = c.unary(c.request()).await;
        if matches!(&result, Err(status) if status.code() == Code::Unavailable) {
            break;
        }
        assert!(start.elapsed().as_secs() < 5, "{result:?}");
        sleep(Duration::from_millis(10)).await;
    }
    talk.exchange(c.message()).await.unwrap();
    talk.finish().await;
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, socket, scenario, sandbox, seen] = &args[..] else {
        panic!("usage: interop SOCKET SCENARIO SANDBOX_ID SEEN_SOCKET");
    };
    let channel = dial(socket, endpoint()).await;
    let c = &Client {
        socket: socket.clone(),
        sandbox: sandbox.clone(),
        echo: EchoServiceClient::new(channel.clone()),
        channel,
        seen: EchoServiceClient::new(dial(seen, endpoint()).await),
    };
    match scenario.as_str() {
        "unary" => unary(c).await,
        "metadata" => metadata(c).await,
        "error" => error(c).await,
        "details" => details(c).await,
        "deadline" => deadline(c).await,
        "timeout" => timeout_seen(c).await,
        "cancel" => cancel(c).await,
        "stream" => stream(c).await,
        "stream_slow" => stream_slow(c).await,
        "stream_error" => stream_error(c).await,
        "stream_cancel" => stream_cancel(c).await,
        "sum" => sum(c).await,
        "sum_none" => sum_none(c).await,
        "sum_slow" => sum_slow(c).await,
        "chat" => chat(c).await,
        "chat_half_close" => chat_half_close(c).await,
        "chat_error" => chat_error(c).await,
        // Not chat_cancel: without a half-close before it the library cancels no stream that it may
        // still send on.
        "largest" => largest(c).await,
        "too_large" => too_large(c).await,
        "routed_limit" => routed_limit(c).await,
        "concurrent" => concurrent(c).await,
        "connections" => connections(c).await,
        "unimplemented" => unimplemented(c).await,
        "compressed" => compressed(c).await,
        "keepalive" => keepalive(c).await,
        "health" => health(c).await,
        "shutdown" => shutdown(c).await,
        _ => panic!("unknown scenario"),
    }
}
