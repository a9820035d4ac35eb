//! Writes the packets that the tests of all layers share where libFuzzer begins: `seeds CORPUS_OF_FRAME
//! CORPUS_OF_PACKET`.
use ringmq::codec::{Cut, MAX_PACKET, cases, cut};
use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let folders: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [frames, packets] = &folders[..] else { panic!("two folders are expected") };
    fs::create_dir_all(frames)?;
    fs::create_dir_all(packets)?;
    for (number, case) in cases::all().enumerate() {
        let name = format!("case-{number:03}");
        fs::write(frames.join(&name), case.bytes)?;
        if let Ok(Cut::Frame(frame)) = cut(case.bytes, MAX_PACKET) {
            fs::write(packets.join(&name), [&[frame.first], frame.body].concat())?;
        }
    }
    Ok(())
}
