//! Programs of BPF as one writes them: instructions one after the other (RFC 9669), and jumps to
//! places that have a name.

/// Registers. What a call of the kernel gives is in `R0`, its arguments are in `R1` to `R5` and lost,
/// the others stay; `R10` is where the stack ends.
pub(crate) const R0: u8 = 0;
pub(crate) const R1: u8 = 1;
pub(crate) const R2: u8 = 2;
pub(crate) const R3: u8 = 3;
pub(crate) const R4: u8 = 4;
pub(crate) const R5: u8 = 5;
pub(crate) const R6: u8 = 6;
pub(crate) const R7: u8 = 7;
pub(crate) const R8: u8 = 8;
pub(crate) const STACK: u8 = 10;

/// How much is loaded or stored (RFC 9669, section 5).
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Width {
    /// A byte.
    Byte = 0x10,
    /// Two bytes.
    Half = 0x08,
    /// Four.
    Word = 0x00,
    /// Eight.
    Long = 0x18,
}

/// One instruction: operation, registers, offset, immediate value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    operation: u8,
    to: u8,
    from: u8,
    offset: i16,
    value: i32,
}

impl Instruction {
    /// As the kernel takes it (`struct bpf_insn`, linux/bpf.h), whose bit fields are in the host's
    /// order.
    pub(crate) fn bytes(self) -> [u8; 8] {
        let registers = if cfg!(target_endian = "little") {
            self.from << 4 | self.to
        } else {
            self.to << 4 | self.from
        };
        let ([o1, o2], [v1, v2, v3, v4]) = (self.offset.to_ne_bytes(), self.value.to_ne_bytes());
        [self.operation, registers, o1, o2, v1, v2, v3, v4]
    }
}

/// A program that is being written. `L` are the names of places.
#[derive(Debug)]
pub(crate) struct Assembly<L> {
    code: Vec<Instruction>,
    places: Vec<(L, usize)>,
    jumps: Vec<(L, usize)>,
}

impl<L: Copy + PartialEq + std::fmt::Debug> Assembly<L> {
    pub(crate) fn new() -> Self {
        Self { code: Vec::new(), places: Vec::new(), jumps: Vec::new() }
    }

    fn push(&mut self, operation: u8, to: u8, from: u8, offset: i16, value: i32) {
        self.code.push(Instruction { operation, to, from, offset, value });
    }

    /// What comes next has this name.
    pub(crate) fn place(&mut self, name: L) {
        self.places.push((name, self.code.len()));
    }

    /// `to = from`
    pub(crate) fn copy(&mut self, to: u8, from: u8) {
        self.push(0xbf, to, from, 0, 0);
    }

    /// `to = value`
    pub(crate) fn set(&mut self, to: u8, value: i32) {
        self.push(0xb7, to, 0, 0, value);
    }

    /// `to += value`
    pub(crate) fn add(&mut self, to: u8, value: i32) {
        self.push(0x07, to, 0, 0, value);
    }

    /// `to += from`
    pub(crate) fn add_register(&mut self, to: u8, from: u8) {
        self.push(0x0f, to, from, 0, 0);
    }

    /// `to <<= bits`
    pub(crate) fn shift_left(&mut self, to: u8, bits: i32) {
        self.push(0x67, to, 0, 0, bits);
    }

    /// `to &= value`
    pub(crate) fn and(&mut self, to: u8, value: i32) {
        self.push(0x57, to, 0, 0, value);
    }

    /// `to = *(from + offset)`
    pub(crate) fn load(&mut self, width: Width, to: u8, from: u8, offset: i16) {
        self.push(0x61 | width as u8, to, from, offset, 0);
    }

    /// `*(to + offset) = from`
    pub(crate) fn store(&mut self, width: Width, to: u8, offset: i16, from: u8) {
        self.push(0x63 | width as u8, to, from, offset, 0);
    }

    /// `*(to + offset) = value`
    pub(crate) fn store_value(&mut self, width: Width, to: u8, offset: i16, value: i32) {
        self.push(0x62 | width as u8, to, 0, offset, value);
    }

    /// `to` is a map that a descriptor of this process names.
    pub(crate) fn map(&mut self, to: u8, fd: i32) {
        const PSEUDO_MAP_FD: u8 = 1;
        self.push(0x18, to, PSEUDO_MAP_FD, 0, fd);
        self.push(0, 0, 0, 0, 0);
    }

    /// Calls a function of the kernel, by its number (linux/bpf.h).
    pub(crate) fn call(&mut self, function: i32) {
        self.push(0x85, 0, 0, 0, function);
    }

    /// Ends with what is in `R0`.
    pub(crate) fn end(&mut self) {
        self.push(0x95, 0, 0, 0, 0);
    }

    fn jump(&mut self, operation: u8, left: u8, right: u8, value: i32, to: L) {
        self.jumps.push((to, self.code.len()));
        self.push(operation, left, right, 0, value);
    }

    /// Goes on elsewhere.
    pub(crate) fn go(&mut self, to: L) {
        self.jump(0x05, 0, 0, 0, to);
    }

    /// Goes on elsewhere if `left` is `value`.
    pub(crate) fn if_is(&mut self, left: u8, value: i32, to: L) {
        self.jump(0x15, left, 0, value, to);
    }

    /// Goes on elsewhere unless `left` is `value`.
    pub(crate) fn unless(&mut self, left: u8, value: i32, to: L) {
        self.jump(0x55, left, 0, value, to);
    }

    /// Goes on elsewhere unless both are the same.
    pub(crate) fn unless_same(&mut self, left: u8, right: u8, to: L) {
        self.jump(0x5d, left, right, 0, to);
    }

    /// Goes on elsewhere if `left` is more than `right`.
    pub(crate) fn if_more(&mut self, left: u8, right: u8, to: L) {
        self.jump(0x2d, left, right, 0, to);
    }

    /// The program, with every jump led to its place.
    ///
    /// # Panics
    /// When a jump leads to no place, or too far.
    pub(crate) fn finish(mut self) -> Vec<Instruction> {
        for (name, at) in self.jumps {
            let place = self.places.iter().find(|(other, _)| *other == name);
            let (_, to) = place.unwrap_or_else(|| panic!("there is no place {name:?}"));
            let (to, next) = (i32::try_from(*to), i32::try_from(at + 1));
            let distance = to.ok().zip(next.ok()).map(|(to, next)| to - next);
            let offset = distance.and_then(|distance| i16::try_from(distance).ok());
            self.code[at].offset = offset.expect("programs are short");
        }
        self.code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_lead_to_their_places() {
        let mut program = Assembly::new();
        program.set(R0, 1);
        program.if_is(R1, 7, "end");
        program.set(R0, 2);
        program.place("end");
        program.end();
        let code = program.finish();
        assert_eq!((code[1].offset, code.len()), (1, 4));
        if cfg!(target_endian = "little") {
            assert_eq!(code[1].bytes(), [0x15, 1, 1, 0, 7, 0, 0, 0]);
            assert_eq!(code[2].bytes(), [0xb7, 0, 0, 0, 2, 0, 0, 0]);
        }
    }

    #[test]
    fn loads_and_stores_say_how_much() {
        let mut program = Assembly::<()>::new();
        program.load(Width::Long, R2, R6, -8);
        program.store(Width::Half, STACK, -2, R3);
        program.store_value(Width::Byte, STACK, -1, 9);
        let operations: Vec<_> = program.finish().iter().map(|code| code.operation).collect();
        assert_eq!(operations, [0x79, 0x6b, 0x72]);
    }
}
