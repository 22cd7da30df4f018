//! The stubs, from the same files as every other client's.

const FILES: [&str; 3] =
    ["sandboxd/test/v1/echo.proto", "grpc/health/v1/health.proto", "google/rpc/status.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-env-changed=PROTOS");
    let folders = std::env::var("PROTOS")?; // colons between them
    let folders: Vec<&str> = folders.split(':').collect();
    for folder in &folders {
        println!("cargo:rerun-if-changed={folder}");
    }
    tonic_prost_build::configure()
        .build_server(false)
        .emit_rerun_if_changed(false)
        .compile_protos(&FILES, &folders)?;
    Ok(())
}
