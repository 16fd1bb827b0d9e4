//! Reading safetensors files as streams.

use std::collections::BTreeMap;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::LENGTH;
use crate::error::{Error, Result};
use crate::kernels::tables::with_room;
use crate::storage::{FileEntry, Store};

/// Largest header that is believed, in bytes.
const MAX_HEADER: usize = 100_000_000;

/// Part of a table's size that is kept free behind it. A later day appends rows; without room for them the whole would be copied. Memory
/// that is never touched costs nothing.
const SPARE: usize = 8;

/// A tensor that was read.
struct Tensor {
    shape: Vec<usize>,
    values: Owned,
}

enum Owned {
    F32(Vec<f32>),
    F64(Vec<f64>),
    U32(Vec<u32>),
    U64(Vec<u64>),
}

/// The tensors of one file.
pub struct Tensors {
    found: BTreeMap<String, Tensor>,
    url: String,
}

/// Reads the tensors of a file that `wanted` takes by name; the whole of it is held against `entry`. `advice` says what to do
/// with a damaged one.
pub async fn read(
    store: &Store,
    entry: &FileEntry,
    advice: &str,
    wanted: impl Fn(&str) -> bool + Copy,
) -> Result<Tensors> {
    let url = store.url_of(&entry.key);
    let mut decoder = Decoder { bytes: entry.bytes, ..Decoder::default() };
    let damaged = |error: String| Error::config(format!("{url} is damaged; {advice}")).caused_by(error);
    store.get_file_in_pieces(entry, async |bytes| decoder.take(bytes, wanted).map_err(damaged)).await?;
    Ok(Tensors { found: decoder.found, url })
}

impl Tensors {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Owned> {
        let tensor = self.found.remove(name);
        let tensor = tensor.ok_or_else(|| Error::config(format!("{} has no tensor `{name}`", self.url)))?;
        if tensor.shape == shape {
            return Ok(tensor.values);
        }
        Err(Error::config(format!(
            "{}: tensor `{name}`: found shape {:?}, expected {shape:?}, as in feature_spec.json",
            self.url, tensor.shape
        )))
    }

    fn other_type(&self, name: &str, expected: &str) -> Error {
        Error::config(format!("{}: tensor `{name}`: found another type of number, expected {expected}", self.url))
    }

    /// A tensor's values, row-major; each can be taken once.
    pub fn f32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        match self.take(name, shape)? {
            Owned::F32(values) => Ok(values),
            _ => Err(self.other_type(name, "F32")),
        }
    }

    pub fn f64(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f64>> {
        match self.take(name, shape)? {
            Owned::F64(values) => Ok(values),
            _ => Err(self.other_type(name, "F64")),
        }
    }

    pub fn u32(&mut self, name: &str, shape: &[usize]) -> Result<Vec<u32>> {
        match self.take(name, shape)? {
            Owned::U32(values) => Ok(values),
            _ => Err(self.other_type(name, "U32")),
        }
    }

    pub fn u64(&mut self, name: &str, shape: &[usize]) -> Result<Vec<u64>> {
        match self.take(name, shape)? {
            Owned::U64(values) => Ok(values),
            _ => Err(self.other_type(name, "U64")),
        }
    }

    pub fn has(&self, name: &str) -> bool {
        self.found.contains_key(name)
    }
}

/// Takes a file's bytes as they come.
#[derive(Default)]
struct Decoder {
    /// Size of the file.
    bytes: u64,
    /// The length of the header and the header, until they are whole.
    header: Vec<u8>,
    /// The tensors that are still to come, the next one last.
    plan: Option<Vec<(String, TensorInfo)>>,
    open: Option<Open>,
    found: BTreeMap<String, Tensor>,
}

/// A tensor that is being read.
struct Open {
    name: String,
    shape: Vec<usize>,
    /// None where nobody wants it.
    values: Option<Owned>,
    /// Bytes to come.
    left: usize,
    /// Bytes of a value that the last piece has cut.
    cut: Vec<u8>,
}

impl Decoder {
    fn take(&mut self, mut bytes: &[u8], wanted: impl Fn(&str) -> bool) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.plan.is_none() {
                bytes = self.take_header(bytes)?;
                continue;
            }
            if self.open.is_none() {
                let next = self.plan.as_mut().and_then(Vec::pop).ok_or("there are bytes after the last tensor")?;
                self.open = Some(Open::new(next, &wanted)?);
            }
            let Some(open) = &mut self.open else { continue };
            let (own, rest) = bytes.split_at(bytes.len().min(open.left));
            bytes = rest;
            open.take(own);
            self.close_full();
        }
        Ok(())
    }

    /// Takes what belongs to the header, and returns the rest.
    fn take_header<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], String> {
        let mut length = LENGTH;
        if let Some(first) = self.header.first_chunk() {
            let header = usize::try_from(u64::from_le_bytes(*first)).unwrap_or(usize::MAX).min(usize::MAX - LENGTH);
            length += header;
            if header == 0 || length > MAX_HEADER || length as u64 > self.bytes {
                return Err(format!("its header would have {header} bytes"));
            }
        }
        let (own, rest) = bytes.split_at(bytes.len().min(length - self.header.len()));
        self.header.extend_from_slice(own);
        if length > LENGTH && self.header.len() == length {
            let header: Metadata = serde_json::from_slice(&self.header[LENGTH..]).map_err(|error| error.to_string())?;
            if (length + header.data_len()) as u64 != self.bytes {
                return Err(format!("it has {} bytes, and its header lists {}", self.bytes, header.data_len()));
            }
            let names = header.offset_keys().into_iter().rev();
            self.plan = Some(names.filter_map(|name| header.info(&name).cloned().map(|info| (name, info))).collect());
        }
        Ok(rest)
    }

    fn close_full(&mut self) {
        if let Some(Open { name, shape, values, .. }) = self.open.take_if(|open| open.left == 0)
            && let Some(values) = values
        {
            self.found.insert(name, Tensor { shape, values });
        }
    }
}

impl Open {
    fn new((name, info): (String, TensorInfo), wanted: impl Fn(&str) -> bool) -> Result<Self, String> {
        let left = info.data_offsets.1 - info.data_offsets.0;
        let values = match info.dtype {
            _ if !wanted(&name) => None,
            Dtype::F32 => Some(Owned::F32(with_room(left / 4 + left / 4 / SPARE))),
            Dtype::F64 => Some(Owned::F64(Vec::with_capacity(left / 8))),
            Dtype::U32 => Some(Owned::U32(Vec::with_capacity(left / 4))),
            Dtype::U64 => Some(Owned::U64(Vec::with_capacity(left / 8))),
            other => return Err(format!("tensor `{name}` is of type {other:?}, which this program does not write")),
        };
        Ok(Open { name, shape: info.shape, values, left, cut: Vec::new() })
    }

    fn take(&mut self, bytes: &[u8]) {
        self.left -= bytes.len();
        match &mut self.values {
            None => {}
            Some(Owned::F32(values)) => decode(bytes, &mut self.cut, |bytes| values.push(f32::from_le_bytes(bytes))),
            Some(Owned::F64(values)) => decode(bytes, &mut self.cut, |bytes| values.push(f64::from_le_bytes(bytes))),
            Some(Owned::U32(values)) => decode(bytes, &mut self.cut, |bytes| values.push(u32::from_le_bytes(bytes))),
            Some(Owned::U64(values)) => decode(bytes, &mut self.cut, |bytes| values.push(u64::from_le_bytes(bytes))),
        }
    }
}

/// Hands on values of N bytes; what is left of the last one waits in `cut`.
fn decode<const N: usize>(mut bytes: &[u8], cut: &mut Vec<u8>, mut push: impl FnMut([u8; N])) {
    if !cut.is_empty() {
        let (own, rest) = bytes.split_at(bytes.len().min(N - cut.len()));
        cut.extend_from_slice(own);
        bytes = rest;
        if let Ok(whole) = <[u8; N]>::try_from(&cut[..]) {
            push(whole);
            cut.clear();
        }
    }
    let (whole, rest) = bytes.as_chunks::<N>();
    whole.iter().for_each(|value| push(*value));
    cut.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::super::{Named, Values, write};
    use super::*;
    use crate::storage::{damage, open};

    fn tensors(rows: &[f32]) -> Vec<Named<'_>> {
        vec![
            Named::f32("b.rows", &[rows.len() / 2, 2], rows),
            Named::f32("a.bias", &[1], &[1.5]),
            Named::new("steps", &[1], Values::U64(&[3])),
            Named::new("moments", &[2], Values::F64(&[0.1, 7.0])),
        ]
    }

    #[test]
    fn bytes_may_be_cut_anywhere_and_damage_never_panics() {
        let rows: Vec<f32> = (0..40).map(|at| at as f32).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = open("memory://tensors-cut").unwrap();
        let whole = runtime.block_on(async {
            let entry = write(&store, "file".into(), tensors(&rows)).await.unwrap();
            store.get_file(&entry).await.unwrap()
        });
        let decode = |bytes: &[u8], size: usize| {
            let mut decoder = Decoder { bytes: bytes.len() as u64, ..Decoder::default() };
            bytes.chunks(size).try_for_each(|piece| decoder.take(piece, |_| true)).map(|()| decoder.found)
        };
        for size in [1, 3, 5, 7, 8, 64, 1000] {
            let found = decode(&whole, size).unwrap();
            let Owned::F32(values) = &found["b.rows"].values else { panic!("rows are f32") };
            assert_eq!((values, found.len()), (&rows, 4), "pieces of {size}");
        }
        runtime.block_on(damage::each("any safetensors file", 1000, &whole, async |damaged| {
            let _ = decode(&damaged, 64);
        }));
        assert!(decode(&whole[..whole.len() - 1], 64).is_err());
        let without_header = [&[0; LENGTH], &whole[LENGTH..]].concat();
        assert_eq!(decode(&without_header, 64).err().unwrap(), "its header would have 0 bytes");
    }
}
