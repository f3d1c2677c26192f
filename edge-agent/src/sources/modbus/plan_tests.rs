use super::*;
use proptest::prelude::*;

fn holding(address: u16, count: u16) -> Want {
    Want { register: Register::Holding, address, count }
}

const LIMITS: Limits = Limits { gap_max: 8, registers_max: 120 };

fn shape(requests: &[Request]) -> Vec<(u16, u16)> {
    requests.iter().map(|r| (r.address, r.count)).collect()
}

fn all(wants: &[Want], limits: Limits) -> (Planner, Arc<[Request]>) {
    let mut planner = Planner::new(wants.to_vec(), limits);
    let due: Vec<usize> = (0..wants.len()).collect();
    let plan = planner.plan(&due);
    (planner, plan)
}

#[test]
fn neighbours_go_into_one_request_and_far_ones_do_not() {
    let (_, plan) = all(&[holding(40, 2), holding(0, 1), holding(1, 2), holding(11, 1)], LIMITS);
    assert_eq!(shape(&plan), [(0, 12), (40, 2)]);
    assert_eq!(plan[0].covers, [(1, 0), (2, 1), (3, 11)]);
}

#[test]
fn tables_are_never_mixed_and_bits_reach_sixteen_times_as_far() {
    let wants = [
        Want { register: Register::Coil, address: 0, count: 1 },
        Want { register: Register::Coil, address: 100, count: 1 },
        Want { register: Register::Discrete, address: 1, count: 1 },
        holding(1, 1),
        Want { register: Register::Input, address: 2, count: 1 },
    ];
    assert_eq!(all(&wants, LIMITS).1.len(), 4);
}

#[test]
fn only_what_is_due_is_read() {
    let mut planner = Planner::new(vec![holding(0, 1), holding(1, 1), holding(2, 1)], LIMITS);
    assert_eq!(shape(&planner.plan(&[1])), [(1, 1)]);
    assert_eq!(shape(&planner.plan(&[0, 2])), [(0, 3)]);
}

#[test]
fn a_point_at_the_last_register_is_reached() {
    let (_, plan) = all(&[holding(65_535, 1), holding(65_530, 2)], LIMITS);
    assert_eq!(shape(&plan), [(65_530, 6)]);
}

#[test]
fn a_refused_request_is_cut_and_the_cut_is_remembered() {
    let wants: Vec<Want> = (0..8).map(|a| holding(a * 2, 1)).collect();
    let (mut planner, plan) = all(&wants, LIMITS);
    assert_eq!(shape(&plan), [(0, 15)]);
    let halves = planner.bisect(&plan[0]).unwrap();
    assert_eq!(shape(&halves), [(0, 7), (8, 7)]);
    assert_eq!(shape(&planner.plan(&[0, 1, 2, 3, 4, 5, 6, 7])), [(0, 7), (8, 7)]);
    assert_eq!(shape(&planner.plan(&[3, 4])), [(6, 1), (8, 1)]);
}

#[test]
fn a_single_point_is_not_cut() {
    let (mut planner, plan) = all(&[holding(3, 2)], LIMITS);
    assert_eq!(planner.bisect(&plan[0]), None);
    let (mut planner, plan) = all(&[holding(3, 2), holding(4, 2)], LIMITS);
    assert_eq!(planner.bisect(&plan[0]), None, "overlapping points stay together");
}

fn want() -> impl Strategy<Value = Want> {
    (0usize..4, 0u16..300, 1u16..5).prop_map(|(table, address, count)| {
        let register = [Register::Holding, Register::Input, Register::Coil, Register::Discrete][table];
        Want { register, address, count: if register.is_bits() { 1 } else { count } }
    })
}

/// Every want exactly once, whole, in its own table.
fn complete(wants: &[Want], requests: &[Request]) {
    let mut seen = vec![0; wants.len()];
    for request in requests {
        for &(index, distance) in &request.covers {
            seen[index] += 1;
            assert_eq!(wants[index].register, request.register);
            assert_eq!(wants[index].address, request.address + distance);
            assert!(distance + wants[index].count <= request.count);
        }
    }
    assert!(seen.iter().all(|&times| times == 1), "{seen:?}");
}

proptest! {
    #[test]
    fn every_point_is_read_once_within_the_limits(
        wants in proptest::collection::vec(want(), 0..60), gap_max in 0u16..20, registers_max in 4u16..125,
    ) {
        let (_, plan) = all(&wants, Limits { gap_max, registers_max });
        complete(&wants, &plan);
        for request in plan.iter() {
            let times = if request.register.is_bits() { 16 } else { 1 };
            prop_assert!(request.count <= (registers_max * times).min(request.register.count_max()));
        }
    }

    #[test]
    fn a_device_with_holes_is_learnt_until_every_existing_point_is_read(
        wants in proptest::collection::vec(want(), 1..40),
        holes in proptest::collection::btree_set(0u16..300, 0..10),
    ) {
        let refused = |r: &Request| (r.address..r.address + r.count).any(|a| holes.contains(&a));
        let (mut planner, plan) = all(&wants, LIMITS);
        let mut work: Vec<Request> = plan.to_vec();
        let mut answered = vec![false; wants.len()];
        let mut tries = 0;
        while let Some(request) = work.pop() {
            tries += 1;
            prop_assert!(tries < 200, "endless");
            if !refused(&request) {
                request.covers.iter().for_each(|&(index, _)| answered[index] = true);
            } else if let Some(halves) = planner.bisect(&request) {
                work.extend(halves);
            }
        }
        // Points that overlap one with a hole share its fate; every other one is answered.
        for (index, want) in wants.iter().enumerate() {
            let touches = |other: &Want| other.register == want.register
                && other.address < want.address + want.count && want.address < other.address + other.count;
            let lonely = wants.iter().enumerate().all(|(i, other)| i == index || !touches(other));
            let whole = (want.address..want.address + want.count).all(|a| !holes.contains(&a));
            if lonely && whole { prop_assert!(answered[index], "{want:?}"); }
        }
        // The next plan is complete still, and sends nothing that would be cut again.
        let due: Vec<usize> = (0..wants.len()).collect();
        let plan = planner.plan(&due);
        complete(&wants, &plan);
        for request in plan.iter().filter(|r| refused(r)) {
            prop_assert_eq!(planner.clone().bisect(request), None);
        }
    }
}
