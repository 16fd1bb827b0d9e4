//! Safetensors files as streams: the header first, then the values piece by piece, so that a table lies in memory once however
//! large it is.

use std::collections::BTreeMap;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::error::{Error, Result};
use crate::storage::{FileEntry, ObjectWriter, Store};

/// Values that are encoded before they are handed to the store.
const PIECE: usize = 1 << 18;
/// Largest header that is believed, in bytes.
const MAX_HEADER: usize = 100_000_000;
/// Bytes of the header's length.
const LENGTH: usize = 8;

/// The values of a tensor to write, row-major.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    U64(&'a [u64]),
}

/// One tensor to write.
pub struct Named<'a> {
    name: String,
    shape: Vec<usize>,
    values: Values<'a>,
}

/// A tensor that was read.
struct Tensor {
    shape: Vec<usize>,
    values: Owned,
}

enum Owned {
    F32(Vec<f32>),
    F64(Vec<f64>),
    U64(Vec<u64>),
}

/// The tensors of one file.
pub struct Tensors {
    found: BTreeMap<String, Tensor>,
    url: String,
}

impl<'a> Named<'a> {
    pub fn new(name: impl Into<String>, shape: &[usize], values: Values<'a>) -> Self {
        Named { name: name.into(), shape: shape.to_vec(), values }
    }

    pub fn f32(name: impl Into<String>, shape: &[usize], values: &'a [f32]) -> Self {
        Named::new(name, shape, Values::F32(values))
    }
}

impl Values<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Values::F32(_) => Dtype::F32,
            Values::F64(_) => Dtype::F64,
            Values::U64(_) => Dtype::U64,
        }
    }

    fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
            Values::U64(values) => values.len(),
        }
    }

    /// Puts the bytes of values `from..to` in the place of `bytes`, and returns where the first that is not finite stands.
    fn encode(&self, from: usize, to: usize, bytes: &mut Vec<u8>) -> Option<usize> {
        bytes.clear();
        let odd = match self {
            Values::F32(values) => {
                values[from..to].iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
                values[from..to].iter().position(|value| !value.is_finite())
            }
            Values::F64(values) => {
                values[from..to].iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
                values[from..to].iter().position(|value| !value.is_finite())
            }
            Values::U64(values) => {
                values[from..to].iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
                None
            }
        };
        odd.map(|at| from + at)
    }
}

/// Writes one file, laid out as the safetensors library does: wider types first, then by name.
///
/// # Errors
/// A value that is not finite: no such file is ever finished.
pub async fn write(store: &Store, key: String, mut tensors: Vec<Named<'_>>) -> Result<FileEntry> {
    let failed = |error: &dyn std::fmt::Display| Error::internal(format!("cannot write safetensors: {error}"));
    tensors.sort_by(|a, b| b.values.dtype().cmp(&a.values.dtype()).then(a.name.cmp(&b.name)));
    let mut end = 0;
    let infos = tensors.iter().map(|tensor| {
        let (start, dtype) = (end, tensor.values.dtype());
        end += tensor.values.len() * dtype.bitsize() / 8;
        (tensor.name.clone(), TensorInfo { dtype, shape: tensor.shape.clone(), data_offsets: (start, end) })
    });
    let header = Metadata::new(None, infos.collect()).map_err(|error| failed(&error))?;
    let mut header = serde_json::to_vec(&header).map_err(|error| failed(&error))?;
    header.resize(header.len().next_multiple_of(LENGTH), b' ');
    let mut object = ObjectWriter::new(store, key);
    object.write(&(header.len() as u64).to_le_bytes()).await?;
    object.write(&header).await?;
    let mut bytes = Vec::new();
    for tensor in &tensors {
        let len = tensor.values.len();
        for from in (0..len).step_by(PIECE) {
            if let Some(at) = tensor.values.encode(from, len.min(from + PIECE), &mut bytes) {
                let row = at / (len / tensor.shape.first().copied().unwrap_or(1).max(1)).max(1);
                object.abort().await;
                return Err(Error::config(format!(
                    "training: `{}` has a value that is not finite in row {row}; the weights have grown without bound: lower training.learning_rate.dense or .tables, raise model.temperature, or set training.clip",
                    tensor.name
                )));
            }
            object.write(&bytes).await?;
        }
    }
    object.finish(None).await
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
            length += usize::try_from(u64::from_le_bytes(*first)).unwrap_or(usize::MAX - LENGTH);
            if length > MAX_HEADER || length as u64 > self.bytes {
                return Err(format!("its header would have {length} bytes"));
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
            Dtype::F32 => Some(Owned::F32(Vec::with_capacity(left / 4))),
            Dtype::F64 => Some(Owned::F64(Vec::with_capacity(left / 8))),
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
    use super::*;
    use crate::storage::open;

    const SCALARS: [f64; 3] = [0.1, -3.5e-300, 7.0];

    fn tensors<'a>(rows: &'a [f32], one: &'a [f32], steps: &'a [u64]) -> Vec<Named<'a>> {
        vec![
            Named::f32("b.rows", &[rows.len() / 2, 2], rows),
            Named::f32("a.bias", &[1], one),
            Named::new("steps", &[1], Values::U64(steps)),
            Named::new("moments", &[3], Values::F64(&SCALARS)),
        ]
    }

    #[tokio::test]
    async fn a_file_is_to_the_byte_what_the_library_writes_and_reads_back_exactly() {
        let store = open("memory://tensors").unwrap();
        let rows: Vec<f32> = (0..600_000).map(|at| (at as f32).sin() * 1e-3).collect();
        let steps = [u64::MAX - 1];
        let entry = write(&store, "file".into(), tensors(&rows, &[f32::MIN_POSITIVE], &steps)).await.unwrap();
        let bytes = store.get_file(&entry).await.unwrap();
        let of = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (rows_bytes, one_bytes) = (of(&rows), of(&[f32::MIN_POSITIVE]));
        let scalars: Vec<u8> = SCALARS.iter().flat_map(|value| value.to_le_bytes()).collect();
        let steps_bytes = steps[0].to_le_bytes();
        let view =
            |dtype, shape: &[usize], bytes| safetensors::tensor::TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        let expected = safetensors::serialize(
            [
                ("b.rows", view(Dtype::F32, &[300_000, 2], &rows_bytes)),
                ("a.bias", view(Dtype::F32, &[1], &one_bytes)),
                ("steps", view(Dtype::U64, &[1], &steps_bytes)),
                ("moments", view(Dtype::F64, &[3], &scalars)),
            ],
            None,
        );
        assert_eq!(bytes[..], expected.unwrap()[..]);

        let mut read = read(&store, &entry, "", |name| name != "a.bias").await.unwrap();
        assert!(!read.has("a.bias"));
        assert_eq!(read.f32("b.rows", &[300_000, 2]).unwrap(), rows);
        assert_eq!(read.f64("moments", &[3]).unwrap(), SCALARS);
        assert!(read.f32("steps", &[1]).unwrap_err().message.contains("expected F32"));
    }

    #[test]
    fn bytes_may_be_cut_anywhere_and_damage_never_panics() {
        let rows: Vec<f32> = (0..40).map(|at| at as f32).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = open("memory://tensors-cut").unwrap();
        let whole = runtime.block_on(async {
            let entry = write(&store, "file".into(), tensors(&rows, &[1.5], &[3])).await.unwrap();
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
        for at in 0..whole.len().min(400) {
            let mut flipped = whole.to_vec();
            flipped[at] ^= 0x41;
            let _ = decode(&flipped, 64);
        }
        assert!(decode(&whole[..whole.len() - 1], 64).is_err());
    }

    #[tokio::test]
    async fn a_value_that_is_not_finite_is_refused_and_nothing_is_left() {
        let store = open("memory://tensors-nan").unwrap();
        let mut rows = vec![1.0; 10];
        rows[5] = f32::NAN;
        let error = write(&store, "file".into(), vec![Named::f32("t.rows", &[5, 2], &rows)]).await.unwrap_err();
        assert!(error.message.starts_with("training: `t.rows` has a value that is not finite in row 2"), "{error}");
        assert_eq!(store.get("file").await.unwrap(), None);
    }
}
