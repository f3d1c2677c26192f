//! Which requests read the points that are due. Pure: no IO, no clock.
//!
//! Neighbouring registers go into one request within the device's limits. A request that the device refuses
//! as *illegal address* is cut in two, and the cut is remembered, so that a device with holes is learnt once.

use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The four tables of a Modbus device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Register {
    /// Function 3.
    Holding,
    /// Function 4.
    Input,
    /// Function 1.
    Coil,
    /// Function 2.
    Discrete,
}

impl Register {
    /// The name in configs and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Holding => "holding",
            Self::Input => "input",
            Self::Coil => "coil",
            Self::Discrete => "discrete",
        }
    }

    /// Whether it holds single bits.
    #[must_use]
    pub fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// The most that the protocol lets one request ask for.
    #[must_use]
    pub fn count_max(self) -> u16 {
        if self.is_bits() { 2000 } else { 125 }
    }
}

/// What one point needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want {
    /// The table.
    pub register: Register,
    /// Zero-based.
    pub address: u16,
    /// Registers or bits.
    pub count: u16,
}

/// How far requests of a device may reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Unwanted registers that are read along to save a request (16 times as many bits).
    pub gap_max: u16,
    /// Registers in one request (16 times as many bits).
    pub registers_max: u16,
}

/// One request, and which wants it answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// The table.
    pub register: Register,
    /// Zero-based.
    pub address: u16,
    /// Registers or bits.
    pub count: u16,
    /// (index of the want, its distance from `address`), by address.
    pub covers: Vec<(usize, u16)>,
}

/// How many different sets of due points keep their plan.
const PLANS_KEPT: usize = 16;

/// The wants of one device, and what was learnt about it.
#[derive(Clone, Debug)]
pub struct Planner {
    wants: Vec<Want>,
    limits: Limits,
    /// No request starts below such an address and goes on to it. Bounded by the number of wants.
    cuts: BTreeSet<(Register, u16)>,
    plans: Vec<(Vec<usize>, Arc<[Request]>)>,
}

impl Planner {
    /// For these wants; a want is known by its index from here on.
    #[must_use]
    pub fn new(wants: Vec<Want>, limits: Limits) -> Self {
        Self { wants, limits, cuts: BTreeSet::new(), plans: Vec::new() }
    }

    /// The requests that read the wants of these indices. An index without a want is left out.
    pub fn plan(&mut self, due: &[usize]) -> Arc<[Request]> {
        if let Some((_, plan)) = self.plans.iter().find(|(known, _)| known == due) {
            return Arc::clone(plan);
        }
        let plan: Arc<[Request]> = self.coalesce(due).into();
        if self.plans.len() >= PLANS_KEPT {
            self.plans.remove(0);
        }
        self.plans.push((due.to_vec(), Arc::clone(&plan)));
        plan
    }

    /// After *illegal address*: the request in two halves, to be sent instead, now and from now on.
    /// `None` when it reads a single want, or several that overlap: then the device lacks that very register.
    pub fn bisect(&mut self, refused: &Request) -> Option<[Request; 2]> {
        let starts: Vec<u16> = refused.covers.iter().map(|(_, distance)| *distance).collect();
        let middle = starts.len() / 2;
        // The cut nearest to the middle that divides no want.
        let place = (1..starts.len()).filter(|&i| self.divides_none(refused, i)).min_by_key(|&i| i.abs_diff(middle))?;
        self.cuts.insert((refused.register, refused.address + starts[place]));
        self.plans.clear();
        let (left, right) = refused.covers.split_at(place);
        Some([self.request(refused, left), self.request(refused, right)])
    }

    /// Forgets the cuts, so that they are learnt anew.
    pub fn forget(&mut self) {
        self.cuts.clear();
        self.plans.clear();
    }

    /// How many cuts were learnt.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.cuts.len()
    }

    fn divides_none(&self, request: &Request, place: usize) -> bool {
        let at = request.covers[place].1;
        request.covers[..place].iter().all(|&(want, distance)| distance + self.wants[want].count <= at)
    }

    fn request(&self, whole: &Request, covers: &[(usize, u16)]) -> Request {
        let first = covers.iter().map(|c| c.1).min().unwrap_or(0);
        let end = covers.iter().map(|&(want, distance)| distance + self.wants[want].count).max().unwrap_or(first);
        Request {
            register: whole.register,
            address: whole.address + first,
            count: end - first,
            covers: covers.iter().map(|&(want, distance)| (want, distance - first)).collect(),
        }
    }

    fn coalesce(&self, due: &[usize]) -> Vec<Request> {
        let mut order: Vec<usize> = due.iter().copied().filter(|&index| index < self.wants.len()).collect();
        order.sort_unstable_by_key(|&index| {
            let want = self.wants[index];
            (want.register, want.address, want.count, index)
        });
        order.dedup();
        let mut requests: Vec<Request> = Vec::new();
        for index in order {
            let want = self.wants[index];
            match requests.last_mut().filter(|request| self.fits(request, &want)) {
                Some(request) => {
                    let distance = want.address - request.address;
                    request.count = request.count.max(distance + want.count);
                    request.covers.push((index, distance));
                }
                None => requests.push(Request {
                    register: want.register,
                    address: want.address,
                    count: want.count,
                    covers: vec![(index, 0)],
                }),
            }
        }
        requests
    }

    fn fits(&self, request: &Request, want: &Want) -> bool {
        let times = if want.register.is_bits() { 16 } else { 1 };
        let gap_max = u32::from(self.limits.gap_max) * times;
        let count_max = (u32::from(self.limits.registers_max) * times).min(want.register.count_max().into());
        let end = u32::from(request.address) + u32::from(request.count);
        let (first, last) = (u32::from(want.address), u32::from(want.address) + u32::from(want.count));
        let gap = first.saturating_sub(end);
        let cut = want.address > request.address
            && self.cuts.range((want.register, request.address + 1)..=(want.register, want.address)).next().is_some();
        request.register == want.register
            && gap <= gap_max
            && last.max(end) - u32::from(request.address) <= count_max
            && !cut
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
