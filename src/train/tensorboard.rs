//! Event files for TensorBoard: TFRecords of the few protobuf fields that a curve needs, written by hand.
//!
//! Sources: tensorflow/core/util/event.proto and framework/summary.proto for the fields, lib/io/record_writer.h for the frame.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::error::{Error, Result};

/// One event file that is being written.
pub struct Board {
    file: File,
    path: PathBuf,
}

impl Board {
    /// A new file in `folder`. TensorBoard puts together the files of a folder; of what earlier ones say from `step` on it
    /// takes no notice.
    pub fn create(folder: &Path, step: u64, now: DateTime<Utc>) -> Result<Board> {
        let name = format!("events.out.tfevents.{:010}.twotower.{}", now.timestamp(), std::process::id());
        let path = folder.join(name);
        let refused = |error: std::io::Error| {
            let shown = path.display();
            Error::config(format!(
                "training.tensorboard: cannot write {shown}; name a local folder that the job may write"
            ))
            .caused_by(error)
        };
        std::fs::create_dir_all(folder).map_err(refused)?;
        let file = File::create(&path).map_err(refused)?;
        let mut board = Board { file, path: path.clone() };
        board.write(&event(now, 0, |event| bytes(event, 3, b"brain.Event:2"))).map_err(refused)?;
        // SessionLog.status = START
        board.write(&event(now, step, |event| bytes(event, 7, &[1 << 3, 1]))).map_err(refused)?;
        Ok(board)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a point to each curve.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f64)], now: DateTime<Utc>) -> std::io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in values {
            let mut scalar = Vec::new();
            bytes(&mut scalar, 1, tag.as_bytes());
            key(&mut scalar, 2, Wire::Fixed32);
            scalar.extend_from_slice(&(*value as f32).to_le_bytes());
            bytes(&mut summary, 1, &scalar);
        }
        self.write(&event(now, step, |event| bytes(event, 5, &summary)))
    }

    /// One TFRecord: length, its checksum, the data, their checksum.
    fn write(&mut self, data: &[u8]) -> std::io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let record =
            [&length[..], &masked_crc32c(&length).to_le_bytes(), data, &masked_crc32c(data).to_le_bytes()].concat();
        self.file.write_all(&record)
    }
}

/// How the value of a protobuf field is laid out.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

/// An `Event` at a time and step, with what `fill` adds.
fn event(now: DateTime<Utc>, step: u64, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut event = Vec::new();
    key(&mut event, 1, Wire::Fixed64);
    event.extend_from_slice(&(now.timestamp_micros() as f64 / 1e6).to_le_bytes());
    key(&mut event, 2, Wire::Varint);
    varint(&mut event, step);
    fill(&mut event);
    event
}

fn key(out: &mut Vec<u8>, field: u64, wire: Wire) {
    varint(out, field << 3 | wire as u64);
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    key(out, field, Wire::Bytes);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// TFRecord's checksum: CRC-32C, rotated and shifted so that a checksum of data with checksums is not weak.
fn masked_crc32c(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: events are small and few.
fn crc32c(data: &[u8]) -> u32 {
    let rest = data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    });
    !rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of a message: number, and the value's bytes (a varint as eight).
    fn fields(mut data: &[u8]) -> Vec<(u64, Vec<u8>)> {
        fn number(data: &mut &[u8]) -> u64 {
            let mut value = 0;
            for shift in (0..).step_by(7) {
                let (first, rest) = data.split_first().unwrap();
                *data = rest;
                value |= u64::from(first & 0x7f) << shift;
                if *first < 0x80 {
                    break;
                }
            }
            value
        }
        let mut found = Vec::new();
        while !data.is_empty() {
            let key = number(&mut data);
            let value = match key & 7 {
                0 => number(&mut data).to_le_bytes().to_vec(),
                wire => {
                    let size = [0, 8, 0, 0, 0, 4][wire as usize];
                    let size = if wire == 2 { number(&mut data) as usize } else { size };
                    let (value, rest) = data.split_at(size);
                    data = rest;
                    value.to_vec()
                }
            };
            found.push((key >> 3, value));
        }
        found
    }

    /// The events of a file; every checksum is held against the data.
    fn events(mut data: &[u8]) -> Vec<Vec<(u64, Vec<u8>)>> {
        let mut found = Vec::new();
        while !data.is_empty() {
            let size = u64::from_le_bytes(data[..8].try_into().unwrap()) as usize;
            assert_eq!(data[8..12], masked_crc32c(&data[..8]).to_le_bytes());
            let event = &data[12..12 + size];
            assert_eq!(data[12 + size..16 + size], masked_crc32c(event).to_le_bytes());
            found.push(fields(event));
            data = &data[16 + size..];
        }
        found
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        // the check value of the CRC catalogue, and RFC 3720's example of 32 zeros
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn a_file_holds_its_version_its_start_and_the_points_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let now = DateTime::from_timestamp_micros(1_700_000_000_250_000).unwrap();
        let mut board = Board::create(&folder.path().join("runs"), 300, now).unwrap();
        board.scalars(400, &[("loss", 2.5), ("learning_rate/dense", 0.125)], now).unwrap();
        let name = board.path().file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("events.out.tfevents.1700000000.twotower."), "{name}");
        let events = events(&std::fs::read(board.path()).unwrap());
        let time = (1, 1_700_000_000.25f64.to_le_bytes().to_vec());
        let step = |step: u64| (2, step.to_le_bytes().to_vec());
        assert_eq!(events[0], [time.clone(), step(0), (3, b"brain.Event:2".to_vec())]);
        assert_eq!(events[1], [time.clone(), step(300), (7, vec![8, 1])]);
        assert_eq!(events[2][..2], [time, step(400)]);
        let points: Vec<_> = fields(&events[2][2].1).iter().map(|(_, value)| fields(value)).collect();
        assert_eq!(points[0], [(1, b"loss".to_vec()), (2, 2.5f32.to_le_bytes().to_vec())]);
        assert_eq!(points[1], [(1, b"learning_rate/dense".to_vec()), (2, 0.125f32.to_le_bytes().to_vec())]);
        assert_eq!(events.len(), 3);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = Board::create(&file.join("runs"), 0, DateTime::UNIX_EPOCH).err().unwrap();
        assert!(error.message.starts_with("training.tensorboard: cannot write "), "{error}");
    }
}
