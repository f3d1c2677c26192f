use super::*;
use crate::tiers::AuditWanted;
use crate::tiers::hot::shelf::MemoryShelf;
use crate::tiers::hot::shelf::{Kind, Shelf as _};
use crate::tiers::warm::sqlite::SqliteWarm;

const NOW: Timestamp = Timestamp(1_772_366_400_000_000);
const HOUR: i64 = 3_600_000_000;
const HERE: Origin = Origin {
    counted: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
    address: IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)),
};

struct Bench {
    warm: Arc<SqliteWarm>,
    shelf: Arc<MemoryShelf>,
    access: Access,
    _folder: tempfile::TempDir,
}

async fn bench(required: bool) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let warm = Arc::new(SqliteWarm::open(&folder.path().join("w")).await.unwrap());
    let shelf = Arc::new(MemoryShelf::default());
    let access = Access::new(warm.clone(), Sessions::new(shelf.clone()), required, "s3cret".into());
    Bench { warm, shelf, access, _folder: folder }
}

impl Bench {
    /// As if two seconds had gone by.
    async fn later(&self) {
        *self.access.known.lock().await = None;
    }

    async fn user(&self, name: &str, role: Role, password: &str, changed: Timestamp) {
        let user = User { name: name.into(), role, password: Hash::of(password).unwrap(), changed };
        self.warm.access().put_user(&user).await.unwrap();
        self.later().await;
    }

    async fn login(&self, name: &str, password: &str, address: &str) -> Result<String, LoginRefused> {
        let address = address.parse().unwrap();
        let from = Origin { counted: address, address };
        self.access.login(name, password, from, NOW).await.map(|(cookie, _)| cookie)
    }

    /// What happened, the newest first: what, and to whom.
    async fn happened(&self) -> Vec<(String, String)> {
        let all = self.warm.audit(&AuditWanted::all(100)).await.unwrap();
        all.into_iter().map(|(_, one)| (one.detail["did"].as_str().unwrap().to_owned(), one.who)).collect()
    }

    async fn who(&self, bearer: Option<&str>, session: Option<&str>, at: Timestamp) -> Option<(String, Role, Way)> {
        self.access.who(bearer, session, at).await.unwrap().map(|p| (p.name, p.role, p.way))
    }
}

#[tokio::test]
async fn nobody_has_to_say_who_it_is_until_there_is_somebody() {
    let bench = bench(false).await;
    assert_eq!(bench.who(None, None, NOW).await.unwrap().2, Way::Open);
    bench.user("rossi", Role::Viewer, "correct horse", NOW).await;
    assert_eq!(bench.who(None, None, NOW).await, None);
    assert_eq!(bench.who(Some("wrong"), None, NOW).await, None);
    assert_eq!(bench.who(Some("s3cret"), None, NOW).await.unwrap().1, Role::Admin);
    assert_eq!(self::bench(true).await.who(None, None, NOW).await, None, "another address than loopback");
}

#[tokio::test]
async fn a_session_ends_when_it_should() {
    let bench = bench(false).await;
    bench.user("rossi", Role::Operator, "correct horse", NOW).await;
    let login = async || bench.login("rossi", "correct horse", "10.0.0.1").await.unwrap();
    let at = |hours: i64| NOW.plus_micros(hours * HOUR);
    let session = login().await;
    let who = Some(("rossi".to_owned(), Role::Operator, Way::Session));
    assert_eq!(bench.who(None, Some(&session), at(1)).await, who);
    assert_eq!(bench.who(None, Some(&session), at(12)).await, who, "an hour ago it was seen");
    assert_eq!(bench.who(None, Some(&session), at(25)).await, None, "idle");
    assert_eq!(bench.who(None, Some(&session), at(12)).await, None, "for good");
    let session = login().await;
    for hours in (0..168).step_by(10) {
        assert_eq!(bench.who(None, Some(&session), at(hours)).await, who);
    }
    assert_eq!(bench.who(None, Some(&session), at(169)).await, None, "a week");
    let (first, second) = (login().await, login().await);
    assert_ne!(first, second);
    bench.access.logout(&first, HERE, NOW).await.unwrap();
    assert_eq!(bench.who(None, Some(&first), NOW).await, None);
    bench.user("rossi", Role::Viewer, "correct horse", NOW).await;
    assert_eq!(bench.who(None, Some(&second), NOW).await.unwrap().1, Role::Viewer, "the role of now");
    bench.user("rossi", Role::Viewer, "another horse", at(1)).await;
    assert_eq!(bench.who(None, Some(&second), NOW).await, None, "another password");
    let session = bench.login("rossi", "another horse", "10.0.0.1").await.unwrap();
    bench.warm.access().remove_user("rossi").await.unwrap();
    bench.user("bianchi", Role::Viewer, "a third horse", NOW).await;
    assert_eq!(bench.who(None, Some(&session), NOW).await, None, "the user is gone");
}

#[tokio::test]
async fn guessing_stops_after_five_wrong_passwords_and_locks_out_nobody_elsewhere() {
    let bench = bench(false).await;
    bench.user("rossi", Role::Viewer, "correct horse", NOW).await;
    for _ in 0..5 {
        let refused = bench.login("rossi", "guess", "10.0.0.66").await.unwrap_err();
        assert!(matches!(refused, LoginRefused::Wrong { .. }));
    }
    let refused = bench.login("rossi", "correct horse", "10.0.0.66").await.unwrap_err();
    assert!(matches!(refused, LoginRefused::Locked));
    assert!(bench.login("rossi", "correct horse", "10.0.0.1").await.is_ok());
    let unknown = bench.login("nobody", "nobody has this password", "10.0.0.2").await.unwrap_err();
    assert_eq!(unknown.to_string(), "name or password is wrong");
}

/// Behind a proxy everybody may be one address.
#[tokio::test]
async fn guesses_of_others_at_an_address_keep_no_name_out_that_has_not_failed() {
    let bench = bench(false).await;
    let crowd = "10.0.0.66";
    for name in ["rossi", "verdi"] {
        bench.user(name, Role::Viewer, "correct horse", NOW).await;
    }
    let wrong = digest(&format!("\0{crowd}"));
    bench.shelf.set(Kind::Attempt, &wrong, b"49", Duration::from_secs(60)).await.unwrap();
    assert!(matches!(bench.login("nobody", "guess", crowd).await, Err(LoginRefused::Wrong { .. })), "the fiftieth");
    for name in ["nobody", "else"] {
        assert!(matches!(bench.login(name, "guess", crowd).await, Err(LoginRefused::Locked)), "{name}");
    }
    for _ in 0..2 {
        bench.login("rossi", "correct horse", crowd).await.unwrap();
    }
    // Who is there isn't told by what is said, and one guess is all there is.
    assert!(matches!(bench.login("verdi", "guess", crowd).await, Err(LoginRefused::Locked)));
    assert!(matches!(bench.login("verdi", "correct horse", crowd).await, Err(LoginRefused::Locked)));
    bench.login("verdi", "correct horse", "10.0.0.1").await.unwrap();
}

#[tokio::test]
async fn right_passwords_are_no_wrong_ones() {
    let bench = bench(false).await;
    bench.user("rossi", Role::Viewer, "correct horse", NOW).await;
    let crowd = "10.0.0.66";
    let wrong = digest(&format!("\0{crowd}"));
    bench.shelf.set(Kind::Attempt, &wrong, b"48", Duration::from_secs(60)).await.unwrap();
    for _ in 0..3 {
        bench.login("rossi", "correct horse", crowd).await.unwrap();
    }
    assert!(matches!(bench.login("nobody", "guess", crowd).await, Err(LoginRefused::Wrong { .. })));
    assert_eq!(bench.shelf.get(Kind::Attempt, &wrong).await.unwrap().as_deref(), Some(&b"49"[..]));
}

#[tokio::test]
async fn who_came_and_went_and_was_locked_out_is_in_the_audit_once() {
    let bench = bench(false).await;
    bench.user("rossi", Role::Viewer, "correct horse", NOW).await;
    let session = bench.login("rossi", "correct horse", "10.0.0.1").await.unwrap();
    for _ in 0..2 {
        bench.access.logout(&session, HERE, NOW).await.unwrap();
    }
    for _ in 0..7 {
        bench.login("rossi", "guess", "10.0.0.66").await.unwrap_err();
    }
    let rossi = |did: &str| (did.to_owned(), "rossi".to_owned());
    assert_eq!(bench.happened().await, [rossi("locked out"), rossi("logged out"), rossi("logged in")]);
}

#[tokio::test]
async fn a_token_holds_until_it_ends_or_is_taken_back() {
    let bench = bench(false).await;
    let token =
        |name: &str, ends| Token { name: name.into(), role: Role::Viewer, hash: digest("wtc_1"), made: NOW, ends };
    bench.warm.access().put_token(&token("grafana", Some(NOW.plus_micros(HOUR)))).await.unwrap();
    bench.later().await;
    assert_eq!(bench.who(Some("wtc_1"), None, NOW).await, Some(("grafana".into(), Role::Viewer, Way::Token)));
    assert_eq!(bench.who(Some("wtc_1"), None, NOW.plus_micros(HOUR)).await, None);
    bench.warm.access().put_token(&token("grafana", None)).await.unwrap();
    bench.later().await;
    assert!(bench.who(Some("wtc_1"), None, NOW.plus_micros(99 * HOUR)).await.is_some());
    assert!(bench.warm.access().remove_token("grafana").await.unwrap());
    bench.later().await;
    bench.user("rossi", Role::Viewer, "correct horse", NOW).await;
    assert_eq!(bench.who(Some("wtc_1"), None, NOW).await, None);
}

#[test]
fn a_password_is_long_enough_and_nothing_stored_tells_it() {
    assert!(matches!(Hash::of("short"), Err(PasswordRefused::Length)));
    let (hash, again) = (Hash::of("correct horse").unwrap(), Hash::of("correct horse").unwrap());
    assert!(hash.0.starts_with("$argon2id$") && hash != again);
    assert!(hash.is_of("correct horse") && !hash.is_of("correct horsf"));
    assert_eq!(format!("{hash:?}"), "Hash(…)");
}

#[test]
fn what_commands_show_is_readable_by_its_owner_only_and_new_at_each_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    assert!(Local::read(folder.path()).is_none());
    let address = "127.0.0.1:8080".parse().unwrap();
    let (first, second) = (Local::new(address).unwrap(), Local::new(address).unwrap());
    assert_ne!(first.secret, second.secret);
    first.write(folder.path()).unwrap();
    second.write(folder.path()).unwrap();
    assert_eq!(Local::read(folder.path()).unwrap().secret, second.secret);
    let mode = std::fs::metadata(Local::file(folder.path())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// The audit knows names only.
#[tokio::test]
async fn nobody_is_called_as_somebody_else_is() {
    let bench = bench(false).await;
    let people = People { warm: &*bench.warm, by: "test", now: NOW };
    let password = || Hash::of("correct horse").unwrap();
    let add = async |name| people.add(name, Role::Viewer, password()).await.map_err(|refused| refused.to_string());
    let make = async |name| people.make_token(name, Role::Viewer, None).await.map_err(|refused| refused.to_string());
    add("Rossi").await.unwrap();
    make("grafana").await.unwrap();
    for name in ["Rossi", "rossi", "ROSSI"] {
        assert!(add(name).await.unwrap_err().contains("there is a user 'Rossi' already"), "{name}");
        assert!(make(name).await.unwrap_err().contains("there is a user 'Rossi' already; call it otherwise"), "{name}");
    }
    for name in ["grafana", "Grafana"] {
        assert!(add(name).await.unwrap_err().contains("there is a token 'grafana' already"), "{name}");
        assert!(make(name).await.unwrap_err().contains("take it back first"), "{name}");
    }
    people.revoke_token("grafana").await.unwrap();
    assert!(add("grafana").await.is_err(), "what it did is in the audit still");
    make("grafana").await.unwrap();
    people.remove("Rossi").await.unwrap();
    add("rossi").await.unwrap();
    people.set_role("rossi", Role::Operator).await.unwrap();
}

#[tokio::test]
async fn what_was_changed_elsewhere_is_told_to_whoever_wants_news() {
    let bench = bench(false).await;
    bench.user("rossi", Role::Viewer, "correct horse", NOW).await;
    bench.user("bianchi", Role::Viewer, "correct horse", NOW).await;
    let session = bench.access.login("rossi", "correct horse", HERE, NOW).await.unwrap().0;
    assert!(bench.who(None, Some(&session), NOW).await.is_some());
    let mut news = bench.access.news();
    bench.warm.access().remove_user("rossi").await.unwrap();
    tokio::select! {
        () = bench.access.keep_looking() => unreachable!("it looks for ever"),
        told = tokio::time::timeout(Duration::from_secs(10), news.changed()) => told.expect("in time").unwrap(),
    }
    assert_eq!(bench.who(None, Some(&session), NOW).await, None);
    assert!(!news.has_changed().unwrap(), "nothing else is news");
}

/// By a command, or by another collector.
#[tokio::test]
async fn whoever_was_made_elsewhere_a_moment_ago_comes_in_at_once() {
    let bench = bench(true).await;
    assert_eq!(bench.who(Some("wtc_1"), None, NOW).await, None, "looked up just now");
    let people = People { warm: &*bench.warm, by: "test", now: NOW };
    people.add("rossi", Role::Viewer, Hash::of("correct horse").unwrap()).await.unwrap();
    bench.login("rossi", "correct horse", "10.0.0.1").await.unwrap();
    let secret = people.make_token("grafana", Role::Viewer, None).await.unwrap();
    assert!(bench.who(Some(&secret), None, NOW).await.is_some());
    people.set_password("rossi", Hash::of("another horse").unwrap()).await.unwrap();
    bench.login("rossi", "another horse", "10.0.0.1").await.unwrap();
    people.set_password("rossi", Hash::of("a third horse").unwrap()).await.unwrap();
    let there = Access::new(bench.warm.clone(), Sessions::new(bench.shelf.clone()), true, "s3cret".into());
    let session = there.login("rossi", "a third horse", HERE, NOW).await.unwrap().0;
    assert!(bench.who(None, Some(&session), NOW).await.is_some(), "logged in at another collector");
}

#[tokio::test]
async fn with_another_password_sessions_end_even_if_the_clock_stands() {
    let bench = bench(false).await;
    bench.user("rossi", Role::Viewer, "correct horse", NOW).await;
    let session = bench.access.login("rossi", "correct horse", HERE, NOW).await.unwrap().0;
    let people = People { warm: &*bench.warm, by: "rossi", now: NOW };
    let user = people.set_password("rossi", Hash::of("another horse").unwrap()).await.unwrap();
    bench.later().await;
    assert_eq!(bench.who(None, Some(&session), NOW).await, None);
    let session = bench.access.begin(&user, NOW).await.unwrap();
    assert!(bench.who(None, Some(&session), NOW).await.is_some());
}
