use super::*;
use crate::artifacts::IdType;
use crate::retrieval::exact_top;
use crate::retrieval::fixture::{World, clustered};
use crate::storage::sha256_hex;

async fn built(world: &World) -> Result<Written<IndexFacts>> {
    build(&world.job, &world.samples, &world.tower, &world.embeddings, &Start::cold("a test"), keys::INDEX).await
}

async fn load(world: &World, written: &Written<IndexFacts>) -> Result<SearchIndex> {
    SearchIndex::load(&world.job.output, keys::INDEX, &written.files, &written.facts.parameters).await
}

#[tokio::test]
async fn a_small_catalogue_gets_an_exact_index_that_loads_and_finds_the_exact_top() {
    for (name, id_type) in [("index-int", IdType::Bigint), ("index-text", IdType::Varchar)] {
        let world = World::new(name, id_type, 3000, 200, 16).await.set(&["index.queries=50"]);
        let written = built(&world).await.unwrap();
        assert_eq!((&written.facts.factory[..], &written.facts.parameters[..]), ("Flat", ""));
        assert_eq!((written.facts.recall, written.facts.trials.len(), written.facts.k), (1.0, 1, 100));
        let index = load(&world, &written).await.unwrap();
        assert_eq!(*index.item_ids(), world.item_ids);
        let (scores, positions) = index.search(&world.users, 10).unwrap();
        let exact = exact_top(&world.users, &world.items, 16, &[10; 200]);
        for (user, exact) in exact.iter().enumerate() {
            for (rank, hit) in exact.iter().enumerate() {
                let at = user * 10 + rank;
                assert_eq!(positions[at], i64::from(hit.1));
                assert!((scores[at] - hit.0).abs() < 1e-5);
            }
        }
    }
}

#[tokio::test]
async fn the_same_vectors_give_the_same_bytes_on_any_number_of_threads() {
    for factory in ["Flat", "HNSW16", "IVF16,Flat", "IVF16,SQ8", "OPQ4,IVF8,PQ4x4", "IVF64_HNSW8,SQfp16", "PCA8,SQ8"] {
        let mut sums = Vec::new();
        for threads in [1, 3] {
            let world = World::new("index-bytes", IdType::Bigint, 4000, 50, 16).await;
            let world = world.set(&[&format!("index.factory={factory}"), "index.training_vectors=3000"]);
            let written = faiss::on_threads(threads, || futures::executor::block_on(built(&world))).unwrap();
            let choice = (written.facts.parameters, written.facts.recall.to_bits());
            sums.push((choice, written.files.into_iter().map(|file| file.sha256).collect::<Vec<_>>()));
        }
        assert!(sums.windows(2).all(|pair| pair[0] == pair[1]), "{factory}: {sums:?}");
    }
}

#[tokio::test]
async fn the_cheapest_parameters_that_reach_the_target_are_taken() {
    for (factory, parameter) in
        [("IVF64,Flat", "nprobe="), ("HNSW8", "efSearch="), ("IVF64_HNSW8,Flat", "quantizer_efSearch=64")]
    {
        let world = World::new("index-target", IdType::Bigint, 6000, 100, 16).await;
        let world = world.set(&[&format!("index.factory={factory}"), "index.k=20", "index.recall_target=0.95"]);
        let written = built(&world).await.unwrap();
        let (facts, last) = (&written.facts, written.facts.trials.last().unwrap());
        assert!(facts.recall >= 0.95 && facts.parameters.contains(parameter), "{facts:?}");
        assert_eq!(facts.parameters, last.parameters);
        assert!(facts.trials[..facts.trials.len() - 1].iter().all(|trial| trial.recall < 0.95), "{facts:?}");
        load(&world, &written).await.unwrap();
    }
}

#[tokio::test]
async fn where_no_parameters_reach_the_target_the_best_are_taken() {
    let world = World::new("index-missed", IdType::Bigint, 2000, 100, 16).await;
    let world = world.set(&["index.factory=IVF16,PQ4x4", "index.k=10", "index.recall_target=0.999"]);
    let facts = built(&world).await.unwrap().facts;
    assert_eq!(facts.trials.len(), 5);
    let best = facts.trials.iter().map(|trial| trial.recall).fold(0.0, f64::max);
    assert!(facts.recall == best && best < 0.999, "{facts:?}");
}

#[tokio::test]
async fn without_users_the_items_themselves_are_the_queries() {
    let world = World::of("index-no-users", IdType::Bigint, clustered(500, 8, 1), vec![], 8).await;
    let facts = built(&world).await.unwrap().facts;
    assert_eq!((facts.recall, facts.k), (1.0, 100));
}

#[tokio::test]
async fn identical_items_do_not_count_as_missed() {
    let items: Vec<f32> = clustered(40, 8, 1).chunks(8).flat_map(|vector| vector.repeat(5)).collect();
    let world = World::of("index-ties", IdType::Bigint, items, clustered(30, 8, 2), 8).await.set(&["index.k=7"]);
    assert_eq!(built(&world).await.unwrap().facts.recall, 1.0);
}

#[tokio::test]
async fn a_factory_that_cannot_work_is_refused_by_key_with_faiss_s_reason() {
    for (settings, said) in [
        (&["index.factory=IVF256,Flat"][..], "cannot train it on 100 vectors"),
        (&["index.factory=PQ4"], "should be at least as large"),
        (&["index.factory=IDMap,Flat"], "cannot add vectors"),
        (&["index.factory=Flat,,"], "could not parse"),
        (&["index.parameters=nprobe=4"], "index.parameters: this index does not take `nprobe=4`"),
        (&["index.factory=IVF2,Flat", "index.parameters=nprobe=0"], "0 is not between 1"),
        (&["index.factory=IVF2,Flat", "index.parameters=nprobe"], "`nprobe` is not name=number"),
        (&["index.factory=IVF2,Flat", "index.parameters=nprobe=x"], "`x` is not a number"),
    ] {
        let world = World::new("index-refused", IdType::Bigint, 100, 10, 8).await.set(settings);
        let Err(error) = built(&world).await else { panic!("{settings:?} was taken") };
        assert_eq!(error.kind, Kind::Config);
        assert!(error.to_string().contains(said), "{settings:?}: {error}");
    }
}

#[tokio::test]
async fn bad_vectors_are_refused_before_faiss_sees_them() {
    let mut items = clustered(20, 8, 1);
    items[9] = f32::NAN;
    let world = World::of("index-nan", IdType::Bigint, items, clustered(5, 8, 2), 8).await;
    let Err(error) = built(&world).await else { panic!("taken") };
    assert_eq!(error.kind, Kind::GateRefused);
    assert!(error.message.starts_with("1 of 20 item vectors"), "{error}");
    let world = World::of("index-empty", IdType::Bigint, vec![], clustered(5, 8, 2), 8).await;
    let Err(error) = built(&world).await else { panic!("taken") };
    assert!(error.message.contains("`item_features` has no rows"), "{error}");
}

#[tokio::test]
async fn a_damaged_index_is_an_error_and_never_a_crash() {
    let world = World::new("index-damage", IdType::Bigint, 300, 10, 8).await;
    let written = built(&world).await.unwrap();
    let (store, key) = (&world.job.output, &written.files[0].key);
    let whole = store.get_existing(key).await.unwrap().to_vec();
    let noise: Vec<u8> = (0..5000u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut headed = b"IxFI".to_vec();
    headed.extend(&noise);
    for (damaged, said) in [
        (noise, "not an index that faiss can read"),
        (headed, "not an index that faiss can read"),
        (whole[..whole.len() / 2].to_vec(), "not an index that faiss can read"),
        (Vec::new(), "not an index that faiss can read"),
    ] {
        store.put(key, damaged.clone()).await.unwrap();
        let Err(error) = load(&world, &written).await else { panic!("read") };
        assert!(error.message.contains("is not the file that its manifest lists"), "{error}");
        // and where the manifest itself vouches for it
        let vouched =
            FileEntry { bytes: damaged.len() as u64, sha256: sha256_hex(&damaged), ..written.files[0].clone() };
        let files = [vouched, written.files[1].clone()];
        let Err(error) = SearchIndex::load(store, keys::INDEX, &files, "").await else { panic!("read") };
        assert!(error.message.contains(said), "{error}");
    }
    let Err(error) = SearchIndex::load(store, keys::INDEX, &written.files[..1], "").await else { panic!("read") };
    assert!(error.message.contains("item_ids.parquet"), "{error}");
}

#[tokio::test]
async fn a_damaged_index_never_comes_to_faiss_and_a_damaged_id_map_is_refused() {
    use crate::storage::damage;
    let world = World::new("index-damaged", IdType::Varchar, 300, 20, 8).await.set(&["index.factory=IVF4,Flat"]);
    let written = built(&world).await.unwrap();
    for name in [keys::FAISS, keys::ITEM_IDS] {
        let key = format!("{}/{name}", keys::INDEX);
        let whole = world.job.output.get_existing(&key).await.unwrap();
        damage::each(name, 200, &whole, async |damaged| {
            world.job.output.put(&key, damaged).await.unwrap();
            let Err(error) = load(&world, &written).await else { panic!("{name} was read") };
            assert!(error.message.contains("is not the file that its manifest lists"), "{error}");
        })
        .await;
        if name == keys::ITEM_IDS {
            damage::each("any id map", 500, &whole, async |damaged| drop(search::read_ids(damaged.into()))).await;
        }
        world.job.output.put(&key, whole).await.unwrap();
    }
    load(&world, &written).await.unwrap();
}
