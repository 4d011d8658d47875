//! Metrics of the process, with the names that Prometheus' own libraries use:
//! <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Reads the values when they are requested. On systems without `/proc` there are none.
#[derive(Debug)]
pub(crate) struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(read) = Read::from_proc() else { return Ok(()) };
        let cpu = ConstCounter::new(read.cpu);
        let descriptor =
            encoder.encode_descriptor("process_cpu_seconds", "Processor time used", None, cpu.metric_type())?;
        cpu.encode(descriptor)?;
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory in RAM", Some(read.resident)),
            ("process_virtual_memory_bytes", "Address space", Some(read.virtual_memory)),
            ("process_open_fds", "Open file descriptors", Some(read.descriptors)),
            (
                "process_max_fds",
                "Limit on open file descriptors",
                getrlimit(Resource::Nofile).current.map(|n| n as f64),
            ),
            ("process_start_time_seconds", "When the process started, since 1970", Some(read.started)),
        ] {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

struct Read {
    cpu: f64,
    resident: f64,
    virtual_memory: f64,
    descriptors: f64,
    started: f64,
}

impl Read {
    /// The fields of `/proc/self/stat` are those of proc_pid_stat(5).
    fn from_proc() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program, in parentheses, may contain spaces. The first field after it is the third.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let ticks = clock_ticks_per_second() as f64;
        let system = std::fs::read_to_string("/proc/stat").ok()?;
        let booted: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(Self {
            cpu: (field(14)? + field(15)?) / ticks,
            started: booted + field(22)? / ticks,
            virtual_memory: field(23)?,
            resident: field(24)? * page_size() as f64,
            descriptors: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
        })
    }
}
