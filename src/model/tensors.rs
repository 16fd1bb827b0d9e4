//! Safetensors files as streams: the header first, then the values piece by piece, so that a table lies in memory once however
//! large it is.

mod read;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

pub use self::read::{Tensors, read};
use crate::error::{Error, Result};
use crate::storage::{FileEntry, ObjectWriter, Store};

/// Values that are encoded before they are handed to the store.
const PIECE: usize = 1 << 18;
/// What the error of such a value says; whoever knows the training adds its cause.
pub const NOT_FINITE: &str = "has a value that is not finite";
/// Bytes of the header's length.
const LENGTH: usize = 8;

/// The values of a tensor to write, row-major.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
    U32(&'a [u32]),
    U64(&'a [u64]),
}

/// One tensor to write.
pub struct Named<'a> {
    name: String,
    shape: Vec<usize>,
    values: Values<'a>,
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
            Values::U32(_) => Dtype::U32,
            Values::U64(_) => Dtype::U64,
        }
    }

    fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::F64(values) => values.len(),
            Values::U32(values) => values.len(),
            Values::U64(values) => values.len(),
        }
    }

    /// Puts the bytes of values `from..to` in the place of `bytes`, and returns where the first that is not finite stands.
    fn encode(&self, from: usize, to: usize, bytes: &mut Vec<u8>) -> Option<usize> {
        let odd = match self {
            Values::F32(values) => {
                put(&values[from..to], bytes, f32::to_le_bytes);
                values[from..to].iter().position(|value| !value.is_finite())
            }
            Values::F64(values) => {
                put(&values[from..to], bytes, f64::to_le_bytes);
                values[from..to].iter().position(|value| !value.is_finite())
            }
            Values::U32(values) => {
                put(&values[from..to], bytes, u32::to_le_bytes);
                None
            }
            Values::U64(values) => {
                put(&values[from..to], bytes, u64::to_le_bytes);
                None
            }
        };
        odd.map(|at| from + at)
    }
}

fn put<T: Copy, const N: usize>(values: &[T], bytes: &mut Vec<u8>, of: impl Fn(T) -> [u8; N]) {
    bytes.resize(values.len() * N, 0);
    let (places, _) = bytes.as_chunks_mut::<N>();
    places.iter_mut().zip(values).for_each(|(place, value)| *place = of(*value));
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
                return Err(Error::config(format!("training: `{}` {NOT_FINITE} in row {row}", tensor.name)));
            }
            object.write(&bytes).await?;
        }
    }
    object.finish(None).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::open;

    const SCALARS: [f64; 3] = [0.1, -3.5e-300, 7.0];

    pub(super) fn tensors<'a>(rows: &'a [f32], one: &'a [f32], steps: &'a [u64]) -> Vec<Named<'a>> {
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
