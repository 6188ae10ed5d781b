//! Progress of slow things: spinners on a terminal, plain lines otherwise, always on stderr.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Plain lines about one task come no faster than this.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Where progress is shown, and how long each task took. Clones share both.
#[derive(Clone, Default)]
pub struct Progress {
    show: Show,
    finished: Arc<Mutex<Vec<(String, Duration)>>>,
}

#[derive(Clone, Default)]
enum Show {
    #[default]
    Nothing,
    Lines,
    Spinners(MultiProgress),
}

impl Progress {
    /// Spinners when stderr is a terminal, lines otherwise.
    pub fn stderr() -> Self {
        let show =
            if std::io::stderr().is_terminal() { Show::Spinners(MultiProgress::new()) } else { Show::Lines };
        Self { show, finished: Arc::default() }
    }

    /// Shows nothing; the times are still taken.
    pub fn silent() -> Self {
        Self::default()
    }

    /// Begins a task; it is over when the value is finished or dropped.
    pub fn task(&self, name: &str) -> Task {
        let bar = match &self.show {
            Show::Nothing => None,
            Show::Lines => {
                line(&format!("{name} …"));
                None
            }
            Show::Spinners(all) => Some(spinner(all, name)),
        };
        let now = Instant::now();
        Task { name: name.to_owned(), progress: self.clone(), bar, began: now, last_line: Mutex::new(now) }
    }

    /// Begins a task that writes to the terminal itself, so that nothing else is drawn meanwhile.
    pub fn loud_task(&self, name: &str) -> Task {
        self.say(&format!("{name} …"));
        let now = Instant::now();
        Task {
            name: name.to_owned(),
            progress: self.clone(),
            bar: None,
            began: now,
            last_line: Mutex::new(now),
        }
    }

    /// One line that stays.
    pub fn say(&self, text: &str) {
        match &self.show {
            Show::Nothing => {}
            Show::Lines => line(text),
            Show::Spinners(all) => {
                let _ = all.println(text);
            }
        }
    }

    /// The tasks that were finished, with the time each took, in the order of their ends.
    pub fn times(&self) -> Vec<(String, Duration)> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The table of [`Self::times`], one line a task.
    pub fn table(&self) -> String {
        let times = self.times();
        let width = times.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        let line = |(name, took): &(String, Duration)| format!("{name:width$}  {:7.1} s", took.as_secs_f64());
        times.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Something slow that is under way.
pub struct Task {
    name: String,
    progress: Progress,
    bar: Option<ProgressBar>,
    began: Instant,
    last_line: Mutex<Instant>,
}

impl Task {
    /// Says what is being done now.
    pub fn note(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
            return;
        }
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(self.progress.show, Show::Lines) && last.elapsed() >= LINE_EVERY {
            *last = Instant::now();
            line(&format!("{} … {text} ({} s)", self.name, self.began.elapsed().as_secs()));
        }
    }

    /// The task succeeded: notes and shows the time it took.
    pub fn done(self) {
        let took = self.began.elapsed();
        let text = format!("{} ✓ {:.1} s", self.name, took.as_secs_f64());
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.progress.say(&text);
        self.progress.finished.lock().unwrap_or_else(PoisonError::into_inner).push((self.name.clone(), took));
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn spinner(all: &MultiProgress, name: &str) -> ProgressBar {
    let bar = all.add(ProgressBar::new_spinner());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg:.dim}") {
        bar.set_style(style);
    }
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn line(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
