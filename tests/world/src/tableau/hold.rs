//! Answers that are held back after the work was done.

use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Armed,
    Taken,
    Released,
}

/// A held answer, by [`Simulator::hold_answer`](super::Simulator::hold_answer). Dropping it releases the answer.
#[derive(Debug)]
#[must_use = "dropping it releases the answer"]
pub struct Hold {
    stage: watch::Sender<Stage>,
}

impl Hold {
    pub(super) fn arm() -> (Self, Ticket) {
        let stage = watch::Sender::new(Stage::Armed);
        (Self { stage: stage.clone() }, Ticket { stage })
    }

    /// Resolves when the work was done and the answer is being held; at once when that was before.
    pub async fn taken(&self) {
        // It cannot fail: this is a sender itself.
        let _ = self.stage.subscribe().wait_for(|stage| *stage >= Stage::Taken).await;
    }

    /// Lets the answer go. When no refresh came yet, none will be held any more.
    pub fn release(&self) {
        self.stage.send_replace(Stage::Released);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

/// The server's side of a [`Hold`].
pub(super) struct Ticket {
    stage: watch::Sender<Stage>,
}

impl Ticket {
    /// The work is done. False when the hold was given up before.
    pub(super) fn take(&self) -> bool {
        self.stage.send_if_modified(|stage| {
            let armed = *stage == Stage::Armed;
            if armed {
                *stage = Stage::Taken;
            }
            armed
        })
    }

    /// Waits until the answer may go.
    pub(super) async fn released(&self) {
        let _ = self.stage.subscribe().wait_for(|stage| *stage == Stage::Released).await;
    }
}
