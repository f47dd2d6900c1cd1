//! What of a plan was not done: what fails for one network is no reason to give up all of them.

use kernel::{Errno, Error, Result};

/// What of a plan's steps was not done.
#[derive(Debug)]
pub struct Undone<Step> {
    /// The steps that failed.
    pub failed: Vec<(Step, Error)>,
    /// One sentence for each thing that failed besides.
    pub besides: Vec<String>,
    /// What failed first of what is no step's alone.
    pub of_all: Option<Error>,
}

impl<Step> Default for Undone<Step> {
    fn default() -> Self {
        Self { failed: Vec::new(), besides: Vec::new(), of_all: None }
    }
}

impl<Step: Clone> Undone<Step> {
    /// Notes what became of a step. What vanished meanwhile with its container is no failure.
    pub fn note(&mut self, step: &Step, outcome: Result<()>) {
        if let Err(error) = outcome
            && error.errno() != Some(Errno::ENODEV)
        {
            self.failed.push((step.clone(), error));
        }
    }

    /// Notes what became of steps that fail together.
    pub fn asked(&mut self, outcome: Result<()>) {
        if let Err(error) = outcome
            && error.errno() != Some(Errno::ENODEV)
        {
            self.of_all.get_or_insert(error);
        }
    }

    /// Notes that a message of a batch was refused, given the step of each of its messages.
    pub fn refused(&mut self, whose: &[&Step], error: Error) {
        let Error::Refused { index, .. } = error else { return };
        if let Some(step) = whose.get(index) {
            self.failed.push(((*step).clone(), error));
        }
    }

    /// That all was done.
    ///
    /// # Errors
    /// What failed first of it, if anything did.
    pub fn all_done(self) -> Result<()> {
        let first = self.of_all.or_else(|| self.failed.into_iter().next().map(|(_, error)| error));
        first.map_or(Ok(()), Err)
    }
}
