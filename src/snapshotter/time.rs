// SPDX-License-Identifier: Apache-2.0
//! Points in time: nanoseconds since the epoch, UTC.

use std::time::SystemTime;

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;

/// Now.
pub fn now() -> i64 {
    // Before 1970, or after 2262: such a clock is wrong anyway.
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// RFC 3339 in UTC, to the second.
pub fn rfc3339(nanos: i64) -> String {
    let seconds = nanos.div_euclid(NANOS);
    let (year, month, day) = date(seconds.div_euclid(DAY));
    let clock = seconds.rem_euclid(DAY);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", clock / 3600, clock / 60 % 60, clock % 60)
}

/// Year, month and day of a day since the epoch. Years begin in March here, so that the leap day is their last,
/// and come in eras of 400, which all have the same number of days.
fn date(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let shifted = days + 719_468;
    let era = shifted.div_euclid(ERA);
    let day_of_era = shifted.rem_euclid(ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_written_right() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds * NANOS), text);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut before = date(-200_000);
        for day in -199_999..200_000 {
            let today = date(day);
            let next_day = today == (before.0, before.1, before.2 + 1);
            let next_month =
                today.2 == 1 && before.2 >= 28 && (today.1, today.0) == (before.1 % 12 + 1, before.0 + before.1 / 12);
            assert!(next_day || next_month, "{before:?} {today:?}");
            before = today;
        }
    }
}
