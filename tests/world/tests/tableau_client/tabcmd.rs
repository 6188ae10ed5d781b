//! tabcmd 2.0.21: its exit codes, and what it prints.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio::process::Command;
use world::tableau::{Config, Kind, Outcome, Refresh, Simulator};

use crate::{Content, PATIENCE, programs};

/// Where a traceback was printed.
const TRACEBACK: &str = "Traceback (most recent call last):";

/// Somebody's tabcmd: it keeps the last sign-in, token and all, in the home directory.
struct Tabcmd {
    program: PathBuf,
    home: TempDir,
}

/// How a run of it ended.
#[derive(Debug)]
struct Run {
    exit: i32,
    /// The lines that it printed after it had signed in, or all when it had not; of a traceback the first.
    lines: Vec<String>,
}

impl Run {
    #[track_caller]
    fn is(&self, exit: i32, lines: &[&str]) {
        let said: Vec<&str> = self.lines.iter().map(String::as_str).collect();
        assert_eq!((self.exit, said), (exit, lines.to_vec()));
    }

    /// What follows the ids of a list.
    fn names(&self) -> Vec<&str> {
        self.lines
            .iter()
            .map(|line| line.split_once(", ").map_or(line.as_str(), |(_, rest)| rest.trim()))
            .collect()
    }
}

impl Tabcmd {
    async fn new() -> Self {
        Self { program: programs("tabcmd").await.join("tabcmd"), home: tempfile::tempdir().unwrap() }
    }

    /// Signed in to the site of [`Content`].
    async fn of(tableau: &Simulator) -> Self {
        let tabcmd = Self::new().await;
        tabcmd.log_in(tableau, "secret").await.is(0, &[]);
        tabcmd
    }

    async fn run(&self, arguments: &[&str]) -> Run {
        let run = Command::new(&self.program)
            .args(arguments)
            // Else it speaks the language of the machine, and asks the person at the keyboard for what is missing.
            .args(["--language", "en", "--no-prompt"])
            .env("HOME", self.home.path())
            // It writes its log where it is run.
            .current_dir(&self.home)
            .kill_on_drop(true)
            .output();
        let out = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
        let [logged, printed] = [out.stderr, out.stdout].map(|text| String::from_utf8(text).unwrap());
        println!("tabcmd {arguments:?}: {:?}\n{logged}\n{printed}", out.status);
        let mut lines = lines(&logged);
        // Nearly everything is logged, that is on stderr.
        lines.extend(printed.lines().filter(|line| *line != "logging: INFO").map(str::to_owned));
        Run { exit: out.status.code().unwrap(), lines }
    }

    async fn log_in(&self, tableau: &Simulator, secret: &str) -> Run {
        let token = ["--token-name", "drive", "--token-value", secret];
        self.run(&[&["login", "--server", &tableau.url(), "--site", "acme"][..], &token].concat()).await
    }

    /// Of a data source in the project Finance.
    async fn refresh(&self, name: &str, more: &[&str]) -> Run {
        let what = ["refreshextracts", "--datasource", name, "--project", "Finance"];
        self.run(&[&what[..], more].concat()).await
    }
}

fn lines(said: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
        inside = (inside || line == TRACEBACK) && line != "Exiting...";
        if line == "Succeeded" {
            lines.clear();
        } else if !inside || line == TRACEBACK {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// The refresh that is running.
async fn running(tableau: &Simulator, content: &str) -> Refresh {
    let runs = |one: &&Refresh| one.started.is_some() && one.ended.is_none();
    let running = |refreshes: Vec<&Refresh>| refreshes.last().is_some_and(runs);
    tableau.wait_for(PATIENCE, |truth| running(truth.refreshes_of(content))).await.unwrap();
    let truth = tableau.truth();
    truth.refreshes_of(content).into_iter().next_back().unwrap().clone()
}

#[tokio::test]
async fn it_signs_in_and_lists() {
    let tableau = Simulator::start(Config::default()).await.unwrap();
    let content = Content::on(&tableau);
    let tabcmd = Tabcmd::new().await;
    let first = "Cannot sign in because of missing arguments: Run 'tabcmd login -h' for details on required arguments";
    tabcmd.run(&["list", "datasources"]).await.is(1, &["Tabcmd 2.0.21", first, "Exiting..."]);
    let refused = tabcmd.log_in(&tableau, "wrong").await;
    let words = ["401001: Signin Error", "Error signing in to Tableau Server", TRACEBACK, "Exiting..."];
    assert_eq!(refused.exit, 1);
    assert!(refused.lines.ends_with(&words.map(str::to_owned)), "{refused:#?}");
    tabcmd.log_in(&tableau, "secret").await.is(0, &[]);

    let list = tabcmd.run(&["list", "datasources", "--name", "--machine"]).await;
    assert_eq!(list.exit, 0);
    assert_eq!(
        list.names(),
        [
            "===== Listing datasources content for user robot...",
            "NAME",
            "Orders",
            "Orders",
            "Broken",
            "Slow",
            "Live",
            "Größe & \"Co\" <1>",
            "6 total datasources",
        ]
    );
    assert_eq!(list.lines[3], format!("{}, Orders", content.orders));
    let list = tabcmd.run(&["list", "projects", "--name", "--machine"]).await;
    assert_eq!(list.names()[2..], ["default", "Archive", "Sales", "Finance", "Sales", "5 total projects"]);
    let list = tabcmd.run(&["list", "workbooks", "--name", "--address", "--details"]).await;
    assert_eq!(
        list.names()[1..],
        [
            "NAME, URL, CHILDREN",
            "NAME: Atlas, Atlas, VIEWS:Sheet 1",
            "NAME: Board, Board, VIEWS:Sheet 1",
            "2 total workbooks",
        ]
    );
    tabcmd.run(&["logout"]).await.is(0, &["Tabcmd 2.0.21", "Signed out"]);

    let truth = tableau.truth();
    let counts =
        [("signIn", 5), ("serverInfo", 5), ("queryUser", 4), ("queryWorkbookViews", 2), ("unknown", 0)];
    for (operation, count) in counts {
        assert_eq!(truth.count(operation), count, "{operation}: every run signs in anew");
    }
    assert_eq!(truth.count("signOut"), 0, "a logout only forgets");
    let agent = Some("Tabcmd/2.0.21");
    assert!(truth.requests.iter().all(|one| one.user_agent.as_deref() == agent), "{truth:#?}");
}

#[tokio::test]
async fn it_finds_refreshes_and_waits() {
    let tableau = Simulator::start(Config::default()).await.unwrap();
    let content = Content::on(&tableau);
    let tabcmd = Tabcmd::of(&tableau).await;
    let orders = ["refreshextracts", "--datasource", "Orders", "--project", "Sales"];
    let orders = [&orders[..], &["--parent-project-path", "Finance"]].concat();
    let queued = ["Scheduling extracts for Data Source 'Orders' to be refreshed now...", "Job queued"];
    let waited = ["Waiting for refresh job to begin ....", "Job completed:"];

    let full = tabcmd.run(&[&orders[..], &["--synchronous"]].concat()).await;
    let (job, words) = full.lines.split_last().unwrap();
    assert_eq!(
        (full.exit, words),
        (0, &[queued, waited].concat().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..])
    );
    let truth = tableau.truth();
    let refresh = truth.refreshes_of(&content.orders)[0];
    assert!(job.starts_with(&format!("<Job#{} RefreshExtract created_at(", refresh.job)), "{job}");
    assert!(job.ends_with(" progress (100) finish_code(0)>"), "{job}");
    assert_eq!(refresh.outcome, Some(Outcome::Success), "it has waited");

    tabcmd.run(&[&orders[..], &["--incremental"]].concat()).await.is(0, &queued);
    let board = ["refreshextracts", "--url", "Board", "--project", "Finance", "--synchronous"];
    let board = tabcmd.run(&board).await;
    assert_eq!((board.exit, board.lines[0].as_str()), (0, "Requesting 'Board' from the server..."));

    let broken = tabcmd.refresh("Broken", &["--synchronous"]).await;
    let truth = tableau.truth();
    let why = format!(
        "Job {} failed with notes ['Login failed for user.']",
        truth.refreshes_of(&content.broken)[0].job
    );
    let queued =
        ["Scheduling extracts for Data Source 'Broken' to be refreshed now...", "Job queued", waited[0]];
    broken.is(1, &[&queued[..], &[&why, TRACEBACK, "Exiting..."]].concat());

    tabcmd.refresh("Live", &[]).await.is(
        1,
        &[
            "Scheduling extracts for Data Source 'Live' to be refreshed now...",
            "Error message: Error refreshing extract",
            "409090: Bad Request",
            "Extract operation 'refresh' is not allowed for 'Live': it has no extract.",
            "Exiting...",
        ],
    );
    tabcmd.refresh("Nothing", &[]).await.is(
        1,
        &["404: Item not found", "Item not found: [ProjectItem] Finance/[Datasources] Nothing", "Exiting..."],
    );
    let refreshes: Vec<_> =
        tableau.truth().refreshes.into_iter().map(|one| (one.content, one.kind)).collect();
    let (full, incremental) = (Kind::Full, Kind::Incremental);
    let of = |content: &String, kind| (content.clone(), kind);
    assert_eq!(
        refreshes,
        [
            of(&content.orders, full),
            of(&content.orders, incremental),
            of(&content.board, full),
            of(&content.broken, full),
        ]
    );
    assert_eq!(tableau.truth().count("unknown"), 0);
}

#[tokio::test]
async fn of_a_duplicate_it_knows_nothing_and_a_cancelled_job_is_a_failure() {
    let tableau = Simulator::start(Config::default()).await.unwrap();
    let content = Content::on(&tableau);
    let tabcmd = Tabcmd::of(&tableau).await;
    let queued = ["Scheduling extracts for Data Source 'Slow' to be refreshed now...", "Job queued"];
    tabcmd.refresh("Slow", &[]).await.is(0, &queued);
    // 409093 was swallowed below it: it says that a job is queued, and then stumbles over having none.
    let stumbled = ["'NoneType' object has no attribute 'id'", TRACEBACK];
    tabcmd.refresh("Slow", &["--synchronous"]).await.is(2, &[queued, stumbled].concat());
    let truth = tableau.truth();
    let codes: Vec<_> = truth.requests.iter().filter_map(|one| one.code).collect();
    assert_eq!((codes, truth.refreshes.len()), (vec!["409093"], 1));
    tableau.cancel_job(&truth.refreshes[0].job);

    let (cancelled, job) = tokio::join!(tabcmd.refresh("Slow", &["--synchronous"]), async {
        let job = running(&tableau, &content.slow).await.job;
        tableau.cancel_job(&job);
        job
    });
    let why = format!("Job {job} failed with notes []");
    let words = ["Waiting for refresh job to begin ....", &why, TRACEBACK, "Exiting..."];
    cancelled.is(1, &[&queued[..], &words].concat());
}

#[tokio::test]
async fn who_signs_in_with_its_token_takes_its_session_away() {
    let tableau = Simulator::start(Config::default()).await.unwrap();
    let content = Content::on(&tableau);
    let (tabcmd, other) = (Tabcmd::of(&tableau).await, Tabcmd::new().await);
    let (waiting, ()) = tokio::join!(tabcmd.refresh("Slow", &["--synchronous"]), async {
        running(&tableau, &content.slow).await;
        other.log_in(&tableau, "secret").await.is(0, &[]);
    });
    let queued = ["Scheduling extracts for Data Source 'Slow' to be refreshed now...", "Job queued"];
    let waited = ["Waiting for refresh job to begin ....", "Exiting...", "Your session has expired"];
    waiting.is(1, &[queued.as_slice(), &waited].concat());
}
