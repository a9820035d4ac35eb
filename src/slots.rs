//! Numbered places for values. They grow page by page, so that growing moves nothing and leaves no memory behind:
//! a table of a million connections never stops its shard to be copied.
use std::ops::{Index, IndexMut};

/// Bits of a number that say where in its page a value lies.
const PAGE_BITS: u32 = 8;
/// Values of one page.
const PAGE: usize = 1 << PAGE_BITS;
/// No place.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
enum Place<T> {
    /// Empty, with the next empty place.
    Empty(u32),
    Taken(T),
}

/// Values by number; numbers of removed values are used again, the latest first.
#[derive(Debug)]
pub struct Slots<T> {
    pages: Vec<Vec<Place<T>>>,
    free: u32,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Slots<T> {
        Slots { pages: Vec::new(), free: NONE, len: 0 }
    }
}

impl<T> Slots<T> {
    /// No values, no memory.
    pub fn new() -> Slots<T> {
        Slots::default()
    }
    /// How many values there are.
    pub fn len(&self) -> usize {
        self.len
    }
    /// No value.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The number that the next value will get.
    pub fn next_number(&self) -> usize {
        match (self.free, self.pages.last()) {
            (NONE, Some(last)) => (self.pages.len() - 1) * PAGE + last.len(),
            (NONE, None) => 0,
            (free, _) => free as usize,
        }
    }
    /// Adds a value; returns its number.
    pub fn insert(&mut self, value: T) -> usize {
        let number = self.next_number();
        assert!(number < NONE as usize, "numbers have 32 bits");
        self.len += 1;
        if self.free != NONE {
            let place = &mut self.pages[number >> PAGE_BITS][number % PAGE];
            let Place::Empty(next) = std::mem::replace(place, Place::Taken(value)) else {
                unreachable!("a free place is empty")
            };
            self.free = next;
            return number;
        }
        if number.is_multiple_of(PAGE) {
            self.pages.push(Vec::new());
        }
        let page = &mut self.pages[number >> PAGE_BITS];
        if page.is_empty() && number > 0 {
            // The first page grows, for those that have few values.
            page.reserve_exact(PAGE);
        }
        page.push(Place::Taken(value));
        number
    }
    /// Takes a value out. Panics when there is none.
    pub fn remove(&mut self, number: usize) -> T {
        let place = &mut self.pages[number >> PAGE_BITS][number % PAGE];
        match std::mem::replace(place, Place::Empty(self.free)) {
            Place::Taken(value) => {
                self.free = number as u32;
                self.len -= 1;
                value
            }
            Place::Empty(_) => panic!("nothing has the number {number}"),
        }
    }
    /// The value with this number.
    #[inline]
    pub fn get(&self, number: usize) -> Option<&T> {
        match self.pages.get(number >> PAGE_BITS)?.get(number % PAGE)? {
            Place::Taken(value) => Some(value),
            Place::Empty(_) => None,
        }
    }
    /// The value with this number, to be changed.
    #[inline]
    pub fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        match self.pages.get_mut(number >> PAGE_BITS)?.get_mut(number % PAGE)? {
            Place::Taken(value) => Some(value),
            Place::Empty(_) => None,
        }
    }
    /// Values that there is memory for.
    pub fn room(&self) -> usize {
        self.pages.len() * PAGE
    }
    /// All values, in the order of their numbers.
    pub fn into_values(self) -> impl Iterator<Item = T> {
        self.pages.into_iter().flatten().filter_map(|place| match place {
            Place::Taken(value) => Some(value),
            Place::Empty(_) => None,
        })
    }
    /// Every value with its number, in the order of the numbers.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.pages.iter().flatten().enumerate().filter_map(|(number, place)| match place {
            Place::Taken(value) => Some((number, value)),
            Place::Empty(_) => None,
        })
    }
}

impl<T> Index<usize> for Slots<T> {
    type Output = T;
    #[inline]
    fn index(&self, number: usize) -> &T {
        self.get(number).expect("the number of a value that is there")
    }
}

impl<T> IndexMut<usize> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, number: usize) -> &mut T {
        self.get_mut(number).expect("the number of a value that is there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_numbers_over_several_pages() {
        let mut slots = Slots::new();
        for value in 0..3 * PAGE {
            assert_eq!(slots.next_number(), value);
            assert_eq!(slots.insert(value), value);
        }
        for number in (0..3 * PAGE).step_by(2) {
            assert_eq!(slots.remove(number), number);
        }
        assert_eq!(slots.len(), 3 * PAGE / 2);
        assert!(slots.iter().all(|(number, value)| number == *value && number % 2 == 1));
        assert_eq!(slots.room(), 3 * PAGE);
        assert_eq!((slots.get(0), slots.get(1), slots.get(9 * PAGE)), (None, Some(&1), None));
        slots[1] += 7;
        assert_eq!(slots[1], 8);
        assert_eq!(slots.into_values().take(3).collect::<Vec<_>>(), [8, 3, 5]);
    }

    #[test]
    fn the_latest_free_number_is_used_first() {
        let mut slots = Slots::new();
        (0..5).for_each(|value| assert_eq!(slots.insert(value), value));
        slots.remove(1);
        slots.remove(3);
        assert_eq!([slots.insert(10), slots.insert(11), slots.insert(12)], [3, 1, 5]);
        assert_eq!(slots.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [0, 11, 2, 10, 4, 12]);
    }

    #[test]
    #[should_panic(expected = "nothing has the number 0")]
    fn taking_out_twice_is_our_own_mistake() {
        let mut slots = Slots::new();
        slots.insert(());
        slots.remove(0);
        slots.remove(0);
    }
}
