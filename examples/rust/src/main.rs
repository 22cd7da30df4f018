//! Makes a sandbox, runs a command in it, removes it. usage: example [SOCKET]

use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

use sandboxd::process_service_client::ProcessServiceClient;
use sandboxd::process_service_start_response::Event;
use sandboxd::sandbox_service_client::SandboxServiceClient;
use sandboxd::{
    OutputStream, ProcessServiceStartRequest, SandboxServiceCreateRequest,
    SandboxServiceDeleteRequest, SandboxServiceGetRequest,
};
use tonic::transport::{Channel, Endpoint};
use tonic::Request;

mod sandboxd {
    tonic::include_proto!("sandboxd.v1");
}

fn in_a_minute<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(60));
    request
}

/// Prints what the command prints, as it comes; returns its exit status.
async fn run(channel: Channel, sandbox_id: &str, args: &[&str]) -> Result<i32, Box<dyn Error>> {
    let request = ProcessServiceStartRequest {
        sandbox_id: sandbox_id.into(),
        args: args.iter().map(|arg| arg.to_string()).collect(),
        kill_on_disconnect: true,
        ..Default::default()
    };
    let mut processes = ProcessServiceClient::new(channel);
    let mut events = processes.start(in_a_minute(request)).await?.into_inner();
    while let Some(response) = events.message().await? {
        match response.event {
            Some(Event::Data(output)) => match output.stream() {
                OutputStream::Stderr => io::stderr().write_all(&output.data)?,
                _ => io::stdout().write_all(&output.data)?,
            },
            Some(Event::End(end)) => return Ok(end.exit_code),
            _ => {}
        }
    }
    Err("the stream ended without an end".into())
}

async fn work(channel: Channel, sandbox_id: &str) -> Result<(), Box<dyn Error>> {
    let script = "echo to stdout; echo to stderr >&2; exit 3";
    let exit_code = run(channel.clone(), sandbox_id, &["sh", "-c", script]).await?;
    println!("exit status {exit_code}");

    let request = SandboxServiceGetRequest {
        sandbox_id: "no-such-box".into(),
    };
    let answer = SandboxServiceClient::new(channel)
        .get(in_a_minute(request))
        .await;
    if let Err(status) = answer {
        println!("{:?}: {}", status.code(), status.message());
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let socket = std::env::args()
        .nth(1)
        .or(std::env::var("SANDBOXD_SOCKET").ok())
        .unwrap_or("/run/sandboxd/sandboxd.sock".into());
    let channel = Endpoint::from_shared(format!("unix:{socket}"))?.connect_lazy();
    let mut sandboxes = SandboxServiceClient::new(channel.clone());

    let request = SandboxServiceCreateRequest::default();
    let created = sandboxes.create(in_a_minute(request)).await?.into_inner();
    let sandbox_id = created.sandbox.ok_or("no sandbox")?.id;
    println!("created {sandbox_id}");

    let result = work(channel, &sandbox_id).await;
    sandboxes
        .delete(in_a_minute(SandboxServiceDeleteRequest {
            sandbox_id,
            ..Default::default()
        }))
        .await?;
    println!("deleted");
    result
}
