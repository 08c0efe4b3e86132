//! Who may do what, walked completely: every role, reach, need and fleet.

use chassis_core::access::allows;
use chassis_core::{Grant, Need, Place, Reach, Role};
use chassis_spec::FleetName;

#[test]
fn a_role_is_enough_only_where_it_holds() {
    let own: FleetName = "own".parse().unwrap();
    let foreign: FleetName = "foreign".parse().unwrap();
    for (rank, role) in Role::ALL.into_iter().enumerate() {
        let everywhere = Grant { role, reach: Reach::All };
        let somewhere = Grant { role, reach: Reach::Fleets([own.clone()].into()) };
        let nowhere = Grant { role, reach: Reach::Fleets([].into()) };
        for grant in [&everywhere, &somewhere, &nowhere] {
            assert!(allows(grant, Need::Nothing, None));
        }
        for (needed, of) in Role::ALL.into_iter().enumerate() {
            let enough = rank >= needed;
            for place in [Place::Fleet, Place::Fleets, Place::Server] {
                let need = Need::Role(of, place);
                for fleet in [None, Some(&own), Some(&foreign)] {
                    let told = format!("{role} where {of} of {place:?} is needed, fleet {fleet:?}");
                    assert_eq!(allows(&everywhere, need, fleet), enough, "{told}");
                    let here = match (place, fleet) {
                        (Place::Server, _) | (Place::Fleet, None) => false,
                        (Place::Fleets, None) => true,
                        (_, Some(fleet)) => *fleet == own,
                    };
                    assert_eq!(allows(&somewhere, need, fleet), enough && here, "{told}, in one fleet");
                    let listed = place == Place::Fleets && fleet.is_none();
                    assert_eq!(allows(&nowhere, need, fleet), enough && listed, "{told}, in no fleet");
                }
            }
        }
    }
}
