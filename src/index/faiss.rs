//! faiss, in our types and errors. Nothing else calls it.

use std::mem::ManuallyDrop;
use std::os::raw::{c_int, c_void};
use std::path::Path;

use faiss::MetricType;
use faiss::index::autotune::ParameterSpace;
use faiss::index::io::{read_index, write_index};
use faiss::index::{FromInnerPtr, Idx, Index, IndexImpl, SearchResult, index_factory};
use faiss::selector::IdSelector;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::kernels::math::dot_f64;

unsafe extern "C" {
    // of the OpenMP runtime that faiss is linked with; they act on the calling thread
    fn omp_set_num_threads(threads: c_int);
    fn omp_get_max_threads() -> c_int;
    // of faiss's own C interface; the Rust one has no name for these
    fn faiss_IndexIVF_cast(index: *mut c_void) -> *mut c_void;
    fn faiss_IndexIVF_imbalance_factor(lists: *const c_void) -> f64;
    fn faiss_IndexIVF_quantizer(lists: *const c_void) -> *mut c_void;
}

/// Queries that one thread searches at a time. faiss searches fewer than 20 without a matrix product.
const QUERIES: usize = 64;

/// Runs `work` with this many threads for the faiss calls of the calling thread.
pub fn on_threads<T>(threads: usize, work: impl FnOnce() -> T) -> T {
    // SAFETY: both functions only read and set the calling thread's number of threads
    unsafe {
        let before = omp_get_max_threads();
        omp_set_num_threads(threads.clamp(1, 1024) as c_int);
        let result = work();
        omp_set_num_threads(before);
        result
    }
}

/// An index of vectors at positions 0, 1, 2 … by inner product.
pub struct Faiss {
    inner: IndexImpl,
    dim: usize,
}

impl Faiss {
    /// An empty index, as `index_factory` describes it.
    pub fn new(dim: usize, factory: &str) -> Result<Self, faiss::error::Error> {
        let inner = index_factory(dim as u32, factory, MetricType::InnerProduct)?;
        Ok(Faiss { inner, dim })
    }

    /// Whether it must learn from vectors before any can be added.
    pub fn needs_training(&self) -> bool {
        !self.inner.is_trained()
    }

    /// `vectors` is `[n, dim]`.
    pub fn train(&mut self, vectors: &[f32]) -> Result<(), faiss::error::Error> {
        self.inner.train(vectors)
    }

    /// Adds `[n, dim]` vectors at the next positions.
    pub fn add(&mut self, vectors: &[f32]) -> Result<(), faiss::error::Error> {
        if vectors.is_empty() { Ok(()) } else { self.inner.add(vectors) }
    }

    /// Puts `[n, dim]` vectors at places of their own, which must be free.
    pub fn add_at(&mut self, vectors: &[f32], places: &[i64]) -> Result<(), faiss::error::Error> {
        let places: Vec<Idx> = places.iter().map(|place| Idx::from(*place)).collect();
        if vectors.is_empty() { Ok(()) } else { self.inner.add_with_ids(vectors, &places) }
    }

    /// Takes the vectors at these places out, and returns how many there were.
    pub fn remove(&mut self, places: &[i64]) -> Result<usize, faiss::error::Error> {
        let places: Vec<Idx> = places.iter().map(|place| Idx::from(*place)).collect();
        if places.is_empty() { Ok(0) } else { self.inner.remove_ids(&IdSelector::batch(&places)?) }
    }

    /// Whether it has inverted lists that can be looked at.
    pub fn has_lists(&self) -> bool {
        !self.lists().is_null()
    }

    fn lists(&self) -> *mut c_void {
        // SAFETY: the pointer is this living index's; the call looks at its type and returns it, or null for another type
        unsafe { faiss_IndexIVF_cast(self.inner.inner_ptr().cast()) }
    }

    /// How well inverted lists fit `[n, dim]` vectors: their mean squared distance from the centre of their list, both taken at length 1,
    /// and the imbalance of the lists.
    pub fn fit(&self, vectors: &[f32]) -> Result<(f64, f64)> {
        let lists = self.lists();
        if lists.is_null() {
            return Err(Error::internal("this index has no lists"));
        }
        // SAFETY: `lists` is this living index with inverted lists, which keeps its quantizer as long as it lives; the owner that is
        // made of it here is never dropped
        let (imbalance, mut centres) = unsafe {
            let centres = IndexImpl::from_inner_ptr(faiss_IndexIVF_quantizer(lists).cast());
            (faiss_IndexIVF_imbalance_factor(lists), ManuallyDrop::new(centres))
        };
        let nearest = on_threads(1, || centres.search(vectors, 1))
            .map_err(|error| Error::internal("faiss cannot search the centres").caused_by(error))?;
        // centres have length 1: faiss clusters for inner products on the sphere
        let distances = vectors.chunks_exact(self.dim).zip(&nearest.distances).map(|(vector, product)| {
            let length = dot_f64(vector, vector).sqrt();
            if length > 0.0 { 2.0 - 2.0 * f64::from(*product) / length } else { 2.0 }
        });
        Ok((distances.sum::<f64>() / nearest.distances.len().max(1) as f64, imbalance))
    }

    pub fn len(&self) -> usize {
        self.inner.ntotal() as usize
    }

    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Search parameters as in `nprobe=16,quantizer_efSearch=64`; none for an empty text.
    pub fn set_parameters(&mut self, text: &str) -> Result<()> {
        let wrong = |what: String| {
            Error::config(format!("index.parameters: {what}; write them like `nprobe=16` or `efSearch=64`"))
        };
        let space =
            ParameterSpace::new().map_err(|error| Error::internal("cannot set search parameters").caused_by(error))?;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| wrong(format!("`{part}` is not name=number")))?;
            let number: f64 =
                value.trim().parse().map_err(|_| wrong(format!("`{part}`: `{value}` is not a number")))?;
            // faiss casts to int without a look
            if !(1.0..=f64::from(i32::MAX)).contains(&number) {
                return Err(wrong(format!("`{part}`: {number} is not between 1 and {}", i32::MAX)));
            }
            space
                .set_index_parameter(&self.inner, name.trim(), number)
                .map_err(|error| wrong(format!("this index does not take `{part}`")).caused_by(error))?;
        }
        Ok(())
    }

    /// The best `k` of each of `[n, dim]` queries: scores and positions `[n, k]`, best first; -1 where it found no more.
    ///
    /// Blocks of queries go to the threads of the current rayon pool, and faiss searches each on one: its own threads wait for one
    /// another by spinning, which costs several times the work where other processes share the cores.
    pub fn search(&self, queries: &[f32], k: usize) -> Result<(Vec<f32>, Vec<i64>)> {
        if queries.is_empty() || k == 0 {
            return Ok((Vec::new(), Vec::new()));
        }
        if !queries.len().is_multiple_of(self.dim) {
            return Err(Error::internal(format!("{} floats are no queries of dimension {}", queries.len(), self.dim)));
        }
        let blocks: Vec<_> = queries
            .par_chunks(QUERIES * self.dim)
            .map(|queries| on_threads(1, || self.search_here(queries, k)))
            .collect();
        let count = queries.len() / self.dim * k;
        let (mut scores, mut positions) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for block in blocks {
            let block = block.map_err(|error| Error::internal("faiss cannot search").caused_by(error))?;
            scores.extend(block.distances);
            positions.extend(block.labels.iter().map(|label| label.to_native()));
        }
        Ok((scores, positions))
    }

    fn search_here(&self, queries: &[f32], k: usize) -> Result<SearchResult, faiss::error::Error> {
        // SAFETY: the pointer is this living index's. faiss searches an index from many threads as long as nothing changes it,
        // and `&self` says that nothing does; the second owner that `search` asks for is never dropped
        let mut shared = ManuallyDrop::new(unsafe { IndexImpl::from_inner_ptr(self.inner.inner_ptr()) });
        shared.search(queries, k)
    }

    pub fn save(&self, file: &Path) -> Result<()> {
        let name = file
            .to_str()
            .ok_or_else(|| Error::config(format!("the temporary folder {} is not UTF-8", file.display())))?;
        write_index(&self.inner, name).map_err(|error| {
            Error::transient(format!("cannot write {}; is the temporary folder full?", file.display())).caused_by(error)
        })
    }

    /// Reads what [`Faiss::save`] wrote. faiss trusts the sizes in the file, so compare its checksum first.
    pub fn load(file: &Path) -> Result<Self, faiss::error::Error> {
        let inner = read_index(file.to_str().ok_or(faiss::error::Error::BadFilePath)?)?;
        let dim = inner.d() as usize;
        Ok(Faiss { inner, dim })
    }
}
