//! Places: loads and stores, copies, indices, constant bytes, scratch memory,
//! maps and events.

use rtrace::ir::*;

use crate::case::*;

#[test]
fn loads_and_stores_of_every_size() {
    let mut case = Case::new(8);
    let slot = case.slot(8, 8, Home::Stack);
    let mut body = vec![store(Place::slot(slot), 8, argument(0))];
    let mut n = 0;
    for size in [1u8, 2, 4, 8] {
        for signed in [false, true] {
            body.push(give(n, Expr::load(Place::slot(slot), size, signed)));
            n += 1;
        }
    }
    case.body(body);
    let v = 0x8182_8384_8586_8788_u64;
    let wanted = [
        0x88,
        0x88u8 as i8 as i64,
        0x8788,
        0x8788u16 as i16 as i64,
        0x8586_8788,
        0x8586_8788u32 as i32 as i64,
        v as i64,
        v as i64,
    ];
    assert_eq!(case.run(&[v]).words(), wanted);
}
