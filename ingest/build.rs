//! Compiles the schemas of the log's frames and of the snapshot with protox, so that no protoc is
//! needed on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["proto/loushan/log/v1/frame.proto", "proto/loushan/log/v1/snapshot.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    prost_build::Config::new()
        .bytes([".loushan.log.v1.LogFrame.payload"])
        .compile_fds(descriptors)?;
    Ok(())
}
