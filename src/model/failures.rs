//! Which failed refreshes are never retried (docs/trigger.md 4.7): one table, with what each row is known from. Pure.
//!
//! A retry mends what passes by itself: a database that is away, a full disk, a network. It mends nothing that a person has to change, and a wrong
//! password that is tried again and again locks the account it belongs to. Tableau gives no code for why a job failed, only words: those of
//! the driver, in its language. So a failure is taken for lasting only by words that were seen to mean it; whatever else Tableau says is tried again,
//! which costs little. What a job that failed for good is called, and what is to be done, is said here; its own words go no further than
//! this module: they name hosts and users.

/// A failure that a retry does not mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// The source of the data refuses the credentials that the extract's connection has, or there are none.
    SourceCredentials,
}

/// A row of the table: a job failed (`finishCode` 1), and its notes hold these words and none of those.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// What it is taken for.
    pub taken_for: Lasting,
    /// These words, in any case of letters.
    pub says: &'static str,
    /// Words beside which the others mean something that passes.
    pub unless: &'static [&'static str],
    /// Where such notes were seen.
    pub seen: &'static str,
    /// What could make it wrong.
    pub doubt: &'static str,
}

/// See the module. Not in it, since no words are needed: a job of ours that a person cancelled (`finishCode` 2) is not retried either.
pub const NEVER_RETRIED: [Row; 3] = [
    Row {
        taken_for: Lasting::SourceCredentials,
        says: "Login failed for user",
        // SQL Server refuses everybody while it is upgraded or in single-user mode ("Reason: Server is in …"), and while a database
        // recovers ("Cannot open database … requested by the login").
        unless: &["Reason:", "Cannot open"],
        seen: "a job of `tableauserverclient`'s tests: SQL Server, by ODBC",
        doubt: "SQL Server says the same of a login that is paused; English drivers only",
    },
    Row {
        taken_for: Lasting::SourceCredentials,
        says: "Invalid username or password",
        unless: &[],
        seen: "a report of real jobs (apache/airflow, issue 49670): Tableau's own words below Oracle's",
        doubt: "seen in reports only; English servers only",
    },
    Row {
        taken_for: Lasting::SourceCredentials,
        says: "Missing password",
        unless: &[],
        seen: "a report of a real job (`tableauserverclient`, issue 1062): no credentials are embedded",
        doubt: "seen in one report, of a job that makes an extract; English servers only",
    },
];

/// How much of a job's notes is looked at: what failed comes before the stack trace.
const LOOKED_AT: usize = 8 * 1024;

impl Lasting {
    /// What the notes of a failed job are taken for.
    pub fn told_by(notes: &str) -> Option<Self> {
        let notes = beginning(notes);
        let holds = |words: &str| notes.contains(&words.to_ascii_lowercase());
        let row = NEVER_RETRIED
            .iter()
            .find(|row| holds(row.says) && !row.unless.iter().any(|words| holds(words)))?;
        Some(row.taken_for)
    }

    /// As status and conditions name it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::SourceCredentials => "SourceCredentialsInvalid",
        }
    }

    /// What [`Self::reason`] names; none for one that a later build wrote.
    pub fn named(reason: &str) -> Option<Self> {
        [Self::SourceCredentials].into_iter().find(|lasting| lasting.reason() == reason)
    }

    /// What is wrong, and what to do.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::SourceCredentials => {
                "The source of the data refuses the credentials of the extract's connection, or none are embedded: correct them in Tableau"
            }
        }
    }
}

/// Whether a failed incremental refresh says that only a full one helps. How Tableau words that was not seen, so it has to name both; taken for it
/// wrongly, more is loaded than had to be, and nothing is lost.
pub fn wants_full(notes: &str) -> bool {
    let notes = beginning(notes);
    let full = ["full refresh", "full extract", "fully refresh", "refreshed fully"];
    notes.contains("incremental") && full.iter().any(|words| notes.contains(words))
}

/// In small letters.
fn beginning(notes: &str) -> String {
    let mut end = notes.len().min(LOOKED_AT);
    while !notes.is_char_boundary(end) {
        end -= 1;
    }
    notes[..end].to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_that_were_seen_to_mean_it_are_taken_for_lasting() {
        let refused = Some(Lasting::SourceCredentials);
        for (notes, expected) in [
            // As `tableauserverclient`'s tests have it.
            (
                r"java.lang.RuntimeException: [Microsoft][ODBC Driver 17 for SQL Server][SQL Server]Login failed for user.\nIntegrated authentication failed.",
                refused,
            ),
            ("[SQL Server]Login failed for user 'etl'. (18456)", refused),
            ("Login failed for user 'etl'. Reason: Server is in script upgrade mode. (18401)", None),
            (
                "Cannot open database \"dwh\" requested by the login. The login failed. Login failed for user 'etl'.",
                None,
            ),
            ("ORA-01005: null password given; logon denied\n\nInvalid username or password.", refused),
            ("missing password. invalid username or password.", refused),
            ("Connectionless Failure (status code = 10000, Missing password.)", refused),
            ("no route to the database", None),
            ("The query time resource limit (7200 seconds) was exceeded.", None),
            ("Unable to connect to the server \"dwh\". Check that the server is running", None),
            ("Fehler bei der Anmeldung für den Benutzer 'etl'.", None),
            ("", None),
        ] {
            assert_eq!(Lasting::told_by(notes), expected, "{notes}");
        }
    }

    #[test]
    fn a_full_refresh_is_wanted_only_where_both_are_named() {
        for (notes, expected) in [
            ("The column used for the incremental refresh is gone. Perform a full refresh.", true),
            ("Incremental extract cannot be appended: a Full Extract is required", true),
            ("Incremental refresh failed: no route to the database", false),
            ("The full refresh exceeded the time limit", false),
            ("", false),
        ] {
            assert_eq!(wants_full(notes), expected, "{notes}");
        }
    }

    #[test]
    fn however_long_the_notes_are_only_their_beginning_is_read() {
        let long = format!("{}Missing password", "ü".repeat(LOOKED_AT));
        assert_eq!(Lasting::told_by(&long), None);
        let short = format!("Missing password {}", "ü".repeat(LOOKED_AT));
        assert_eq!(Lasting::told_by(&short), Some(Lasting::SourceCredentials));
    }

    #[test]
    fn each_has_a_name_of_its_own_by_which_it_is_known_again() {
        for row in NEVER_RETRIED {
            assert_eq!(Lasting::named(row.taken_for.reason()), Some(row.taken_for));
        }
        assert_eq!(Lasting::named("SomethingNew"), None);
    }
}
