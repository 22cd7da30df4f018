// Makes the stubs; needs protoc in PATH.
fn main() -> std::io::Result<()> {
    let protos = ["sandbox", "process"].map(|name| format!("../../proto/sandboxd/v1/{name}.proto"));
    tonic_prost_build::configure()
        .build_server(false)
        .compile_protos(&protos, &["../../proto".to_string()])
}
