//! Calls with nothing but registers, in Rust: what `registers.c` does.

use underlay::Underlay;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let underlay = Underlay::find()?;
    println!("ping: version {}", underlay.ping()?);
    println!("hello: greeting number {}", underlay.hello()?);
    Ok(())
}
