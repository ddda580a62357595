//! `slurm`: the job and step of a process, by the control groups that slurmstepd makes.

use super::{AttestorError, container};

/// The values for a process; none when it is in no job.
pub(super) fn attest(pid: i32) -> Result<Vec<String>, AttestorError> {
    let paths = container::paths(pid)?;
    let mut found: Option<Vec<String>> = None;
    for path in &paths {
        let Some(values) = job(path) else { continue };
        if found.as_ref().is_some_and(|known| *known != values) {
            return Err(AttestorError::SeveralJobs);
        }
        found = Some(values);
    }
    Ok(found.unwrap_or_default())
}

/// `/system.slice/[NODE_]slurmstepd.scope/{job_N | SLUID}/step_STEP/…` (cgroup v2). Only directly
/// under the `system.slice` of the root, which is root's: a user may make groups of any name
/// elsewhere.
fn job(path: &str) -> Option<Vec<String>> {
    let mut segments = path.strip_prefix("/system.slice/")?.split('/');
    segments.next()?.strip_suffix("slurmstepd.scope")?;
    let job = segments.next()?;
    let job = if let Some(number) = job.strip_prefix("job_") {
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| format!("job_id:{number}"))?
    } else {
        let rest = job.strip_prefix('s')?;
        let shaped = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
        shaped.then(|| format!("sluid:{job}"))?
    };
    let step = segments.next()?.strip_prefix("step_")?;
    (!step.is_empty()).then(|| vec![job, format!("step:{step}")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_and_step_are_told() {
        for (path, job_value, step) in [
            (
                "/system.slice/slurmstepd.scope/job_1234/step_0/user/task_0",
                "job_id:1234",
                "step:0",
            ),
            (
                "/system.slice/n1_slurmstepd.scope/job_7/step_batch",
                "job_id:7",
                "step:batch",
            ),
            (
                "/system.slice/slurmstepd.scope/s4K9ZB/step_extern/slurm",
                "sluid:s4K9ZB",
                "step:extern",
            ),
        ] {
            assert_eq!(job(path).unwrap(), [job_value, step], "{path}");
        }
    }

    #[test]
    fn a_look_alike_elsewhere_is_no_job() {
        for path in [
            "/user.slice/user-1.slice/slurmstepd.scope/job_1/step_0",
            "/user.slice/system.slice/slurmstepd.scope/job_1/step_0",
            "/system.slice/x.service/slurmstepd.scope/job_1/step_0",
            "/system.slice/slurmstepd.scope/job_x/step_0",
            "/system.slice/slurmstepd.scope/job_/step_0",
            "/system.slice/slurmstepd.scope/s/step_0",
            "/system.slice/slurmstepd.scope/job_1/step_",
            "/system.slice/slurmstepd.scope/job_1",
            "/system.slice/slurmstepd.scopex/job_1/step_0",
            "/",
        ] {
            assert_eq!(job(path), None, "{path}");
        }
    }

    #[test]
    fn this_process_is_in_no_job() {
        let own = std::process::id().cast_signed();
        assert_eq!(attest(own).unwrap(), [""; 0]);
    }
}
