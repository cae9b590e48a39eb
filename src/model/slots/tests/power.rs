//! The power fails at each file system operation in turn; then the device boots.

use std::rc::Rc;

use super::super::fault::{Fault, Renames};
use super::*;

/// Does something to the slots of a prepared site with the power failing at each point, until it goes
/// through, and looks at every boot that follows. Gives the number of points.
fn at_every_step(
    prepare: impl Fn(&Site),
    act: impl Fn(&Site, &mut Slots) -> bool,
    allowed: &[&str],
) -> usize {
    for renames in [Renames::Kept, Renames::Lost] {
        for points in 0.. {
            assert!(points < 1000, "it never ends");
            let site = Site::new();
            prepare(&site);
            let fault = Rc::new(Fault::after(points));
            let disk = Disk { fault: Some(Rc::clone(&fault)) };
            let done = match Slots::with_disk(&site.state(), disk) {
                Ok(mut slots) => act(&site, &mut slots),
                Err(_) => false,
            };
            let cut = fault.has_failed();
            fault.settle(renames);
            // `works` has looked into what was booted: it is the whole bundle of that version.
            let booted = site.boot();
            assert!(allowed.contains(&booted.engine.as_str()), "{points}: {}", booted.engine);
            assert!(booted.trouble.is_none(), "{points}: {:?}", booted.trouble);
            assert_eq!(site.boot().engine, booted.engine, "{points}: the second boot differs");
            if !cut {
                assert!(done, "it fails with no fault");
                assert_eq!(booted.engine, allowed[0], "it did not do what it should");
                if renames == Renames::Lost {
                    return points;
                }
                break;
            }
        }
    }
    unreachable!("both ways end above")
}

fn install(version: &'static str) -> impl Fn(&Site, &mut Slots) -> bool {
    move |site, slots| site.install_to(slots, version, By::Updater).is_ok()
}

/// Holds UPD-03.
#[test]
fn power_cut_at_every_step_of_the_first_installation() {
    let points = at_every_step(|_| (), install("1.1.0"), &["1.1.0", "1.0.0"]);
    assert!(points > 20, "only {points} points");
}

/// Holds UPD-03.
#[test]
fn power_cut_at_every_step_of_an_installation_over_two_slots() {
    let prepare = |site: &Site| {
        site.install_and_confirm("1.1.0");
        site.install_and_confirm("1.2.0");
    };
    let points = at_every_step(prepare, install("1.3.0"), &["1.3.0", "1.2.0"]);
    assert!(points > 25, "only {points} points");
}

/// Holds UPD-03.
#[test]
fn power_cut_at_every_step_after_one_that_was_cut_short() {
    let prepare = |site: &Site| {
        site.install_and_confirm("1.1.0");
        let disk = Disk { fault: Some(Rc::new(Fault::after(14))) };
        let mut slots = Slots::with_disk(&site.state(), disk).unwrap();
        assert!(site.install_to(&mut slots, "1.2.0", By::Updater).is_err());
    };
    at_every_step(prepare, install("1.2.0"), &["1.2.0", "1.1.0"]);
}

/// Holds UPD-03.
#[test]
fn power_cut_at_every_step_of_a_rollback() {
    let prepare = |site: &Site| {
        site.install_and_confirm("1.1.0");
        site.install_and_confirm("1.2.0");
    };
    let back = |site: &Site, slots: &mut Slots| {
        slots.rollback(&site.factory(), &site.anchors, |_| true).is_ok()
    };
    at_every_step(prepare, back, &["1.1.0", "1.2.0"]);
}

/// Holds UPD-03.
#[test]
fn power_cut_at_every_step_of_a_confirmation() {
    let prepare = |site: &Site| drop(site.install("1.1.0").unwrap());
    let confirm =
        |site: &Site, slots: &mut Slots| slots.confirm(&site.digest("1.1.0")).is_ok_and(|did| did);
    at_every_step(prepare, confirm, &["1.1.0"]);
}

/// Holds UPD-03.
#[test]
fn power_cut_at_every_step_of_a_start_on_trial() {
    let prepare = |site: &Site| {
        site.install_and_confirm("1.1.0");
        site.install("1.2.0").unwrap();
    };
    let start = |site: &Site, slots: &mut Slots| {
        let booted = slots.boot(&site.factory(), &site.anchors, works).unwrap();
        // A start that cannot be counted is made with the one before.
        assert!(booted.engine == "1.2.0" || booted.trouble.is_some());
        booted.engine == "1.2.0"
    };
    at_every_step(prepare, start, &["1.2.0", "1.1.0"]);
}

/// Holds UPD-03.
#[test]
fn power_cut_at_every_step_of_falling_back() {
    let prepare = |site: &Site| {
        site.install_and_confirm("1.1.0");
        site.install("1.2.0").unwrap();
    };
    let fall = |site: &Site, slots: &mut Slots| {
        slots.give_up(&site.digest("1.2.0"), "it froze").is_ok_and(|did| did)
    };
    at_every_step(prepare, fall, &["1.1.0", "1.2.0"]);
}

/// Holds UPD-03.
#[test]
fn power_cuts_at_random_through_a_life() {
    let mut random = fastrand::Rng::with_seed(6);
    let site = Site::new();
    let mut newest = (0, "1.0.0".to_owned());
    for round in 0..200 {
        let fault = Rc::new(Fault::after(random.usize(..60)));
        let disk = Disk { fault: Some(Rc::clone(&fault)) };
        if let Ok(mut slots) = Slots::with_disk(&site.state(), disk) {
            let version = format!("1.{}.0", newest.0 + 1);
            match random.u8(..4) {
                0 => drop(slots.rollback(&site.factory(), &site.anchors, |_| true)),
                1 => {
                    let current = slots.record().current.clone();
                    if let Some(current) = current {
                        drop(slots.confirm(&current.model.digest));
                    }
                }
                _ => {
                    if site.install_to(&mut slots, &version, By::Operator).is_ok() {
                        newest = (newest.0 + 1, version);
                    }
                }
            }
        }
        fault.settle(if random.bool() { Renames::Kept } else { Renames::Lost });
        let booted = site.boot();
        assert!(booted.engine.starts_with("1."), "{round}");
        let crashed_too_often =
            booted.trouble.as_ref().is_none_or(|why| why.contains("did not stay up"));
        assert!(crashed_too_often, "{round}: {:?}", booted.trouble);
    }
    assert!(newest.0 > 5, "hardly anything was installed: {newest:?}");
}
