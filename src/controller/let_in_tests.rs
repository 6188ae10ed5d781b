use super::*;
use crate::model::connection::Trouble;

/// Until one that was let in and is refused counts no more.
const PATIENCE: Duration = Duration::from_secs(600);
const HERE: &str = "https://t#";
const THERE: &str = "https://u#";

fn site(name: &str) -> Key {
    Key::Site(ObjectName { namespace: "a".into(), name: name.into() })
}

fn at(seconds: u64) -> Moment {
    Moment(Duration::from_secs(seconds))
}

fn connected() -> ConnectionState {
    ConnectionState::Connected { version: "3.24".into() }
}

fn away() -> ConnectionState {
    ConnectionState::Failed(Trouble::Unreachable)
}

fn refused() -> ConnectionState {
    ConnectionState::Failed(Trouble::CredentialsRefused { worked_before: false })
}

fn hear(known: &LetIn, name: &str, origin: &str, state: &ConnectionState, seconds: u64) -> News {
    known.heard(&site(name), origin, state, (at(seconds), PATIENCE))
}

fn counts(known: &LetIn, name: &str, origin: &str) -> bool {
    known.counts(&site(name), origin)
}

fn turned(names: &[(&str, &str)]) -> Vec<(Key, String)> {
    names.iter().map(|(name, origin)| (site(name), (*origin).to_owned())).collect()
}

const fn after(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// However long the place was away at the start: who comes back first is not alone with what is there.
#[test]
fn who_is_let_in_first_waits_a_while_for_the_others_of_that_place() {
    let known = LetIn::default();
    for name in ["first", "second", "never"] {
        assert_eq!(hear(&known, name, HERE, &away(), 100), News::default());
    }
    assert_eq!(hear(&known, "bad", HERE, &refused(), 100).turned, turned(&[("bad", HERE)]));
    assert_eq!(hear(&known, "first", HERE, &away(), 9000), News::default(), "it has counted all the while");
    assert!(counts(&known, "first", HERE) && counts(&known, "never", HERE) && !counts(&known, "bad", HERE));
    assert_eq!(hear(&known, "first", HERE, &connected(), 10_000).again, Some(after(300)));
    assert_eq!(
        hear(&known, "second", HERE, &connected(), 10_200),
        News { turned: vec![], again: Some(after(100)) }
    );
    assert!(counts(&known, "never", HERE) && counts(&known, "unheard", HERE));
    let over = hear(&known, "first", HERE, &connected(), 10_300);
    assert_eq!(over, News { turned: turned(&[("never", HERE)]), again: None }, "who waits for it is woken");
    for (name, expected) in [("first", true), ("second", true), ("never", false), ("unheard", false)] {
        assert_eq!(counts(&known, name, HERE), expected, "{name}");
        assert!(counts(&known, name, THERE), "nobody was let in at {THERE} yet");
    }
    let back = hear(&known, "never", HERE, &connected(), 10_400);
    assert_eq!(back, News { turned: turned(&[("never", HERE)]), again: None });
}

/// A token runs out, and is replaced by hand.
#[test]
fn who_was_let_in_counts_for_a_while_when_it_is_refused_and_is_given_nothing() {
    let known = LetIn::default();
    hear(&known, "one", HERE, &connected(), 0);
    hear(&known, "one", HERE, &connected(), 300);
    let given = || known.is_proven(&site("one"), HERE);
    assert!(given());
    assert_eq!(hear(&known, "one", HERE, &refused(), 1000), News { turned: vec![], again: Some(after(600)) });
    assert!(!given() && counts(&known, "one", HERE) && !known.is_refused(&site("one"), HERE));
    assert_eq!(
        hear(&known, "one", HERE, &away(), 1200).again,
        Some(after(400)),
        "nor does an outage begin it anew"
    );
    assert_eq!(hear(&known, "one", HERE, &connected(), 1300), News::default());
    assert!(given());
    assert_eq!(hear(&known, "one", HERE, &refused(), 2000).again, Some(after(600)));
    let late = hear(&known, "one", HERE, &ConnectionState::Suspended, 2600);
    assert_eq!(late, News { turned: turned(&[("one", HERE)]), again: None });
    assert!(!counts(&known, "one", HERE) && known.is_refused(&site("one"), HERE));
    assert_eq!(hear(&known, "one", HERE, &connected(), 2700).turned, turned(&[("one", HERE)]));
}

#[test]
fn who_leads_elsewhere_or_goes_counts_no_more_where_it_was() {
    let known = LetIn::default();
    hear(&known, "stays", HERE, &connected(), 0);
    hear(&known, "stays", HERE, &connected(), 300);
    hear(&known, "one", HERE, &connected(), 300);
    assert!(counts(&known, "one", HERE));
    let moved = hear(&known, "one", THERE, &ConnectionState::Connecting, 400);
    assert_eq!(moved.turned, turned(&[("one", HERE)]), "whoever waits for it there is woken");
    assert!(!counts(&known, "one", HERE), "it has left");
    assert_eq!(known.lock().forget(&site("one")), Some(THERE.to_owned()));
    assert_eq!(known.lock().forget(&site("stays")), Some(HERE.to_owned()));
    assert_eq!((known.known(), known.lock().places.len()), (vec![], 0), "nothing is left of them");
}

/// Only the platform writes them.
#[test]
fn a_connection_of_the_cluster_always_counts() {
    let known = LetIn::default();
    let shared = Key::Site(crate::model::ids::ConnectionName::cluster("acme").seen_from(&"a".into()));
    hear(&known, "stays", HERE, &connected(), 0);
    hear(&known, "stays", HERE, &connected(), 300);
    let told = known.heard(&shared, HERE, &refused(), (at(400), PATIENCE));
    assert_eq!(told, News::default());
    assert!(known.counts(&shared, HERE) && !known.is_refused(&shared, HERE));
}
