//! A queue that grows page by page. A message that is queued for very many sessions makes all their queues grow at the same
//! time; if each moved what it has to a larger place then, their shard would stand still.
use std::collections::{VecDeque, vec_deque};

/// Values of one page.
const PAGE: usize = 64;

/// Values in the order in which they were put in.
#[derive(Debug)]
pub struct Queue<T> {
    /// None of them is empty.
    pages: VecDeque<VecDeque<T>>,
    len: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue { pages: VecDeque::new(), len: 0 }
    }
}

impl<T> Queue<T> {
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }
    /// No value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The oldest value.
    pub fn front(&self) -> Option<&T> {
        self.pages.front()?.front()
    }
    /// Adds a value behind all others.
    pub fn push_back(&mut self, value: T) {
        self.len += 1;
        match self.pages.back_mut() {
            Some(last) if last.len() < PAGE => last.push_back(value),
            // The only page of a short queue grows as it is needed.
            None => self.pages.push_back([value].into()),
            Some(_) => {
                let mut page = VecDeque::with_capacity(PAGE);
                page.push_back(value);
                self.pages.push_back(page);
            }
        }
    }
    /// Takes the oldest value.
    pub fn pop_front(&mut self) -> Option<T> {
        let page = self.pages.front_mut()?;
        let value = page.pop_front();
        if page.is_empty() {
            self.pages.pop_front();
        }
        self.len -= 1;
        value
    }
    /// Keeps those values for which `keep` returns true.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.pages.iter_mut().for_each(|page| page.retain(&mut keep));
        self.pages.retain(|page| !page.is_empty());
        self.len = self.pages.iter().map(VecDeque::len).sum();
    }
    /// All values, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.pages.iter().flatten()
    }
}

impl<T> IntoIterator for Queue<T> {
    type Item = T;
    type IntoIter = std::iter::Flatten<vec_deque::IntoIter<VecDeque<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.pages.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_out_in_the_order_in_which_they_went_in() {
        let (mut queue, mut model) = (Queue::default(), VecDeque::new());
        for round in 0..2000 {
            // Longer and shorter again, over many pages.
            let (pushed, popped) = if round / 300 % 2 == 0 { (3, 1) } else { (1, 3) };
            for number in 0..pushed {
                queue.push_back(round * 10 + number);
                model.push_back(round * 10 + number);
            }
            for _ in 0..popped {
                assert_eq!(queue.front(), model.front());
                assert_eq!(queue.pop_front(), model.pop_front());
            }
            if round % 250 == 0 {
                queue.retain(|number| number % 3 > 0);
                model.retain(|number| number % 3 > 0);
            }
            assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
        }
        assert!(queue.iter().eq(&model) && queue.len() > PAGE);
        assert!(queue.into_iter().eq(model));
    }
}
