//! The guest and its CPUs as objects.

use crate::counts::Counts;
use abi::handoff::Presence;
use abi::token::Token;
use core::sync::atomic::{AtomicBool, AtomicU64};
use machine::{Memory, Vcpu};

/// What all CPUs of a guest share.
pub struct Vm<M> {
    /// Its memory.
    pub memory: M,
    /// What it can see of the hypervisor. Never changes.
    pub presence: Presence,
    /// CPU features that need a control which this CPU may lack. Never changes.
    pub features: Features,
    /// What opens the owner's services. Never changes.
    pub token: Token,
    /// Greetings so far. Counted by the service `hello` on any CPU.
    pub greetings: AtomicU64,
    /// Whether the guest reached for the hypervisor's memory. Set once, by the
    /// controller `nested_fault`.
    pub trespassed: AtomicBool,
}

/// Features of the CPU that a guest can use only with a control of VT-x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// RDTSCP and RDPID.
    pub rdtscp: bool,
    /// INVPCID.
    pub invpcid: bool,
    /// XSAVES and XRSTORS.
    pub xsaves: bool,
    /// TPAUSE, UMONITOR, UMWAIT.
    pub user_wait: bool,
}

impl Features {
    /// AMD-V needs no controls for them.
    pub const ALL: Self = Self {
        rdtscp: true,
        invpcid: true,
        xsaves: true,
        user_wait: true,
    };
}

impl<M: Memory> Vm<M> {
    /// A guest that has not run yet.
    pub fn new(memory: M, presence: Presence, features: Features) -> Self {
        Self {
            memory,
            presence,
            features,
            token: Token::NONE,
            greetings: AtomicU64::new(0),
            trespassed: AtomicBool::new(false),
        }
    }
}

/// One CPU of the guest, and what is counted on it.
pub struct Cpu<V> {
    /// The vCPU.
    pub vcpu: V,
    /// Its exits.
    pub counts: Counts,
}

impl<V: Vcpu> Cpu<V> {
    /// A CPU that has not run yet.
    pub fn new(vcpu: V) -> Self {
        Self {
            vcpu,
            counts: Counts::default(),
        }
    }
}
