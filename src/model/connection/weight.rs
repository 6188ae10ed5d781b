//! Whose word counts for others. All connections to one place share what it bears, and the lowest limit of them holds; and who declares first what is
//! there keeps it. So it has to be the word of somebody who is let in there, or whoever may write a connection could stop all the others with it.

use super::{ConnectionState, IdentityTrouble, Trouble};

/// What a connection is worth to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weight {
    /// It has not been tried yet.
    #[default]
    Untried,
    /// It was let in.
    Proven,
    /// It never was, and nobody has said anything against it: there was no answer.
    Unanswered,
    /// It is not let in.
    Refused,
}

impl Weight {
    /// What it is once this is known of the connection.
    #[must_use]
    pub fn after(self, state: &ConnectionState) -> Self {
        match state {
            ConnectionState::Connected { .. } => Self::Proven,
            // An outage is nothing that a connection can do for: it is let in again when that is over.
            ConnectionState::Failed(trouble) if passes(trouble) => match self {
                Self::Untried => Self::Unanswered,
                Self::Proven | Self::Unanswered | Self::Refused => self,
            },
            // A proxy in front speaks like that while the place is changed; who was let in is not put out by it.
            ConnectionState::Failed(trouble) if self == Self::Proven && may_be_a_proxy(trouble) => self,
            ConnectionState::Failed(_) => Self::Refused,
            ConnectionState::Connecting
            | ConnectionState::Suspended
            | ConnectionState::SecretNotFound { .. }
            | ConnectionState::SecretAccessDenied { .. }
            | ConnectionState::SecretKeyMissing { .. }
            | ConnectionState::ConfigMapNotFound { .. }
            | ConnectionState::ConfigMapAccessDenied { .. }
            | ConnectionState::ConfigMapKeyMissing { .. }
            | ConnectionState::CaBundleInvalid { .. }
            | ConnectionState::HeaderInvalid { .. } => self,
        }
    }

    /// Whether its limits count: also for the moment until it is tried, so that nothing is overrun at a start.
    fn limits(self) -> bool {
        matches!(self, Self::Untried | Self::Proven)
    }

    /// Whether what is declared through it stands in the way of others. `starts`: nobody was let in there since this process began to act, or the first
    /// one just now, so that many a connection that was let in before has not been tried yet; whoever was there first is not to lose what is his by that.
    pub fn claims(self, starts: bool) -> bool {
        match self {
            Self::Proven => true,
            Self::Untried | Self::Unanswered => starts,
            Self::Refused => false,
        }
    }

    /// The least of these by `and`, of those that count. Where none does nobody is let in, and it is the least of all.
    pub fn least<T: Copy>(all: impl Iterator<Item = (T, Self)>, and: impl Fn(T, T) -> T) -> Option<T> {
        let all: Vec<(T, Self)> = all.collect();
        let counting = all.iter().filter(|(_, weight)| weight.limits()).map(|(value, _)| *value);
        counting.reduce(&and).or_else(|| all.iter().map(|(value, _)| *value).reduce(&and))
    }
}

/// Whether it may be the word of something between us and the place.
fn may_be_a_proxy(trouble: &Trouble) -> bool {
    matches!(
        trouble,
        Trouble::WrongServer | Trouble::PermissionDenied | Trouble::Identity(IdentityTrouble::WrongServer)
    )
}

/// Whether it says something of the place or of the way there, rather than of who wants in.
fn passes(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Dns
        | Trouble::Tls
        | Trouble::Unreachable
        | Trouble::ConnectionLost
        | Trouble::TimedOut
        | Trouble::ServiceUnavailable
        | Trouble::UnexpectedAnswer { .. }
        | Trouble::RateLimited
        | Trouble::SessionContested
        | Trouble::Identity(
            IdentityTrouble::RateLimited
            | IdentityTrouble::Dns
            | IdentityTrouble::Tls
            | IdentityTrouble::Unreachable,
        ) => true,
        Trouble::CredentialsRefused { .. }
        | Trouble::MissingScope
        | Trouble::PermissionDenied
        | Trouble::HostNotAllowed { .. }
        | Trouble::WrongServer
        | Trouble::UnsupportedVersion { .. }
        | Trouble::SiteChanged
        | Trouble::Identity(
            IdentityTrouble::NotGranted
            | IdentityTrouble::NoAssertion
            | IdentityTrouble::Refused
            | IdentityTrouble::NoToken
            | IdentityTrouble::Claim(_)
            | IdentityTrouble::WrongServer,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_let_in_limits_the_others() {
        let connected = || ConnectionState::Connected { version: "3.24".into() };
        let refused = || ConnectionState::Failed(Trouble::CredentialsRefused { worked_before: true });
        let away = || ConnectionState::Failed(Trouble::Unreachable);
        let wrong = || ConnectionState::Failed(Trouble::WrongServer);
        let no_secret = || ConnectionState::SecretNotFound { name: "pat".into() };
        let table = [
            (vec![], Weight::Untried),
            (vec![ConnectionState::Connecting], Weight::Untried),
            (vec![connected()], Weight::Proven),
            (vec![refused()], Weight::Refused),
            // A way that leads nowhere is no outage.
            (vec![away()], Weight::Unanswered),
            (vec![away(), connected()], Weight::Proven),
            (vec![away(), refused()], Weight::Refused),
            (vec![refused(), away()], Weight::Refused),
            (vec![connected(), away()], Weight::Proven),
            (vec![connected(), away(), refused()], Weight::Refused),
            // Another Secret is no new chance, until it is let in.
            (vec![refused(), ConnectionState::Connecting], Weight::Refused),
            (vec![refused(), ConnectionState::Connecting, connected()], Weight::Proven),
            (vec![connected(), no_secret()], Weight::Proven),
            (vec![connected(), ConnectionState::Suspended], Weight::Proven),
            (vec![refused(), no_secret()], Weight::Refused),
            (vec![no_secret()], Weight::Untried),
            // A proxy's page.
            (vec![connected(), wrong()], Weight::Proven),
            (vec![wrong()], Weight::Refused),
        ];
        for (states, expected) in table {
            let found = states.iter().fold(Weight::default(), Weight::after);
            assert_eq!(found, expected, "{states:?}");
        }
    }

    #[test]
    fn only_who_is_let_in_stands_in_the_way_of_others() {
        for (weight, starting, later) in [
            (Weight::Untried, true, false),
            (Weight::Proven, true, true),
            (Weight::Unanswered, true, false),
            (Weight::Refused, false, false),
        ] {
            assert_eq!((weight.claims(true), weight.claims(false)), (starting, later), "{weight:?}");
        }
    }

    #[test]
    fn the_least_of_those_that_count() {
        use Weight::{Proven, Refused, Unanswered, Untried};
        for (all, expected) in [
            (vec![], None),
            (vec![(4, Proven), (1, Refused)], Some(4)),
            (vec![(4, Proven), (2, Untried), (1, Unanswered)], Some(2)),
            (vec![(4, Refused), (1, Unanswered)], Some(1)),
        ] {
            assert_eq!(Weight::least(all.iter().copied(), usize::min), expected, "{all:?}");
        }
    }
}
