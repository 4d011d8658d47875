//! Every store there is, put through the contract suite.

use crate::contract::contract_suite;
use crate::contract::memory::MemoryFactory;

contract_suite!(in_memory, MemoryFactory::default());
