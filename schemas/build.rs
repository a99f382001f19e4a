//! Compiles the wire schema with protox, so that no protoc is needed on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "proto/loushan/v1/telemetry.proto";
    println!("cargo:rerun-if-changed={file}");
    let descriptors = protox::compile([file], ["proto"])?;
    prost_build::Config::new()
        .bytes([".loushan.v1.Reading.raw", ".loushan.v1.Command.arguments"])
        .compile_fds(descriptors)?;
    Ok(())
}
