//! A list that is short mostly: one element needs no allocation.

/// Most transactions write one key.
pub(crate) enum Few<T> {
    None,
    One([T; 1]),
    /// With room for all that are to come, if that was known.
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// An empty list for so many.
    pub fn with_capacity(count: usize) -> Self {
        if count > 1 { Few::Many(Vec::with_capacity(count)) } else { Few::None }
    }

    #[inline]
    pub fn push(&mut self, element: T) {
        match self {
            Few::None => *self = Few::One([element]),
            Few::One(_) => self.push_second(element),
            Few::Many(many) => many.push(element),
        }
    }

    #[cold]
    fn push_second(&mut self, second: T) {
        if let Few::One([first]) = std::mem::replace(self, Few::None) {
            *self = Few::Many(vec![first, second]);
        }
    }
}

impl<T> std::ops::Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Few::None => &[],
            Few::One(one) => one,
            Few::Many(many) => many,
        }
    }
}

impl<T> std::ops::DerefMut for Few<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Few::None => &mut [],
            Few::One(one) => one,
            Few::Many(many) => many,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_list() {
        for count in 0..5_usize {
            for capacity in 0..5 {
                let mut few = Few::with_capacity(capacity);
                (0..count).for_each(|number| few.push(number));
                assert_eq!(&*few, (0..count).collect::<Vec<_>>());
                few.iter_mut().for_each(|number| *number += 1);
                few.push(0);
                assert_eq!(few.iter().sum::<usize>(), (1..=count).sum());
            }
        }
    }
}
