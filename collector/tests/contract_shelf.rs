//! What every shelf must do. A new implementation adds a module at the end and nothing else.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod services;

use collector::tiers::hot::shelf::{COUNT_MAX, KEY_MAX, Kind, Shelf, VALUE_MAX};
use std::collections::BTreeMap;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(3_600);

async fn what_is_set_is_there_until_it_is_removed(shelf: impl Shelf) {
    assert_eq!(shelf.get(Kind::Attempt, "a").await.unwrap(), None);
    shelf.set(Kind::Attempt, "a", b"one", LONG).await.unwrap();
    shelf.set(Kind::Attempt, "a", b"two\0\xff", LONG).await.unwrap();
    assert_eq!(shelf.get(Kind::Attempt, "a").await.unwrap().as_deref(), Some(&b"two\0\xff"[..]));
    assert!(shelf.remove(Kind::Attempt, "a").await.unwrap());
    assert!(!shelf.remove(Kind::Attempt, "a").await.unwrap());
    assert_eq!(shelf.get(Kind::Attempt, "a").await.unwrap(), None);
}

async fn kinds_dont_mix_and_all_are_listed(shelf: impl Shelf) {
    shelf.set(Kind::Attempt, "a", b"attempt", LONG).await.unwrap();
    shelf.set(Kind::Session, "a", b"session", LONG).await.unwrap();
    shelf.set(Kind::Attempt, "b", b"", LONG).await.unwrap();
    let attempts: BTreeMap<_, _> = [("a".into(), b"attempt".to_vec()), ("b".into(), vec![])].into();
    assert_eq!(shelf.all(Kind::Attempt).await.unwrap(), attempts);
    assert_eq!(shelf.get(Kind::Session, "a").await.unwrap().as_deref(), Some(&b"session"[..]));
}

async fn what_expired_is_gone(shelf: impl Shelf) {
    shelf.set(Kind::Session, "short", b"x", Duration::from_millis(50)).await.unwrap();
    shelf.set(Kind::Session, "none", b"x", Duration::ZERO).await.unwrap();
    shelf.set(Kind::Session, "long", b"x", LONG).await.unwrap();
    assert_eq!(shelf.get(Kind::Session, "none").await.unwrap(), None);
    services::eventually("it expires", Duration::from_secs(20), async || {
        shelf.get(Kind::Session, "short").await.unwrap().is_none()
    })
    .await;
    assert_eq!(shelf.all(Kind::Session).await.unwrap().into_keys().collect::<Vec<_>>(), ["long"]);
    assert!(!shelf.remove(Kind::Session, "short").await.unwrap());
}

async fn what_is_too_long_is_refused(shelf: impl Shelf) {
    let (key, value) = ("k".repeat(KEY_MAX), vec![7; VALUE_MAX]);
    shelf.set(Kind::Attempt, &key, &value, LONG).await.unwrap();
    assert_eq!(shelf.get(Kind::Attempt, &key).await.unwrap(), Some(value.clone()));
    assert!(shelf.set(Kind::Attempt, &"k".repeat(KEY_MAX + 1), b"", LONG).await.is_err());
    assert!(shelf.set(Kind::Attempt, "k", &vec![7; VALUE_MAX + 1], LONG).await.is_err());
    assert!(shelf.set(Kind::Attempt, "", b"", LONG).await.is_err());
}

async fn what_expires_first_makes_room(shelf: impl Shelf) {
    shelf.set(Kind::Session, "soon", b"", Duration::from_secs(600)).await.unwrap();
    for n in 0..COUNT_MAX {
        shelf.set(Kind::Session, &n.to_string(), b"", LONG).await.unwrap();
    }
    assert_eq!(shelf.get(Kind::Session, "soon").await.unwrap(), None);
    assert_eq!(shelf.all(Kind::Session).await.unwrap().len(), COUNT_MAX);
}

macro_rules! whole_contract {
    ($make:expr) => {
        whole_contract! { $make;
            what_is_set_is_there_until_it_is_removed
            kinds_dont_mix_and_all_are_listed
            what_expired_is_gone
            what_is_too_long_is_refused
            what_expires_first_makes_room
        }
    };
    ($make:expr; $($test:ident)*) => {
        $(#[tokio::test]
        async fn $test() {
            let (shelf, _service) = $make;
            super::$test(shelf).await;
        })*
    };
}

mod memory {
    use collector::tiers::hot::shelf::MemoryShelf;
    whole_contract!((MemoryShelf::default(), ()));
}

mod redis {
    use super::*;
    use collector::tiers::hot::redis::{RedisHot, RedisShelf};
    use shared::reading::Timestamp;

    async fn bench() -> (RedisShelf, (RedisHot, services::redis::Redis)) {
        let service = services::redis::Redis::start().await;
        let hot = RedisHot::new(&service.settings(), 0, std::sync::Arc::new(Timestamp::wall_clock)).unwrap();
        (hot.shelf(), (hot, service))
    }

    whole_contract!(bench().await);
}
