//! What was made lately, remembered within bounds.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Values in two generations: a full young one becomes the old one, and what is found in the old one becomes young
/// again. So what is in use survives any number of others that are seen once.
#[derive(Debug)]
pub struct Recent<K, V> {
    /// Of one generation, in the unit of the entries' weights.
    max_weight: usize,
    generations: Mutex<Generations<K, V>>,
}

#[derive(Debug)]
struct Generations<K, V> {
    young: HashMap<K, Entry<V>>,
    young_weight: usize,
    old: HashMap<K, Entry<V>>,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: usize,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// Remembers nothing yet, and never more than twice `max_weight`, be it a number of entries or of bytes.
    pub fn new(max_weight: usize) -> Self {
        let generations = Generations { young: HashMap::new(), young_weight: 0, old: HashMap::new() };
        Self { max_weight, generations: Mutex::new(generations) }
    }

    pub fn find<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.within(|generations| {
            if let Some(entry) = generations.young.get(key) {
                return Some(entry.value.clone());
            }
            let (key, entry) = generations.old.remove_entry(key)?;
            let value = entry.value.clone();
            generations.insert(key, entry, self.max_weight);
            Some(value)
        })
    }

    /// Remembers a value. One that is heavier than a whole generation is not.
    pub fn keep(&self, key: K, value: V, weight: usize) {
        if weight <= self.max_weight {
            self.within(|generations| generations.insert(key, Entry { value, weight }, self.max_weight));
        }
    }

    fn within<T>(&self, f: impl FnOnce(&mut Generations<K, V>) -> T) -> T {
        // What a panic elsewhere leaves behind may miss something, and never misleads.
        f(&mut self.generations.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<K: Eq + Hash, V> Generations<K, V> {
    fn insert(&mut self, key: K, entry: Entry<V>, max_weight: usize) {
        if self.young_weight + entry.weight > max_weight {
            self.old = std::mem::take(&mut self.young);
            self.young_weight = 0;
        }
        self.young_weight += entry.weight;
        if let Some(replaced) = self.young.insert(key, entry) {
            self.young_weight -= replaced.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_use_survives_what_is_seen_once() {
        let recent = Recent::new(10);
        recent.keep("used".to_owned(), 0, 1);
        for i in 0..1000 {
            recent.keep(i.to_string(), i, 1);
            assert_eq!(recent.find("used"), Some(0), "after {i} others");
        }
        assert_eq!(recent.find("0"), None);
    }

    #[test]
    fn remembers_no_more_than_two_generations() {
        let recent = Recent::new(100);
        for i in 0..1000 {
            recent.keep(i, (), 7);
            recent.keep(i, (), 7);
        }
        let remembered = recent.within(|generations| generations.young.len() + generations.old.len());
        assert!((14..=28).contains(&remembered), "{remembered}");
        recent.keep(1000, (), 101);
        assert_eq!(recent.find(&1000), None);
    }
}
