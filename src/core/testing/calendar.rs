//! A calendar for tests, counted out by hand: what the product asks of jiff is worked out here from
//! the lengths of the months and from 1970-01-01 having been a Thursday.

/// The year, month and day of a day, the days being counted from 1970-01-01.
pub(crate) fn date(day: i64) -> (i64, i64, i64) {
    let (mut year, mut left) = (1970, day);
    while left < 0 {
        year -= 1;
        left += days_in_year(year);
    }
    while left >= days_in_year(year) {
        left -= days_in_year(year);
        year += 1;
    }
    let mut month = 1;
    while left >= days_in_month(year, month) {
        left -= days_in_month(year, month);
        month += 1;
    }
    (year, month, left + 1)
}

/// The first of January, as a day counted from 1970-01-01.
pub(crate) fn new_year(year: i64) -> i64 {
    if year < 1970 {
        -(year..1970).map(days_in_year).sum::<i64>()
    } else {
        (1970..year).map(days_in_year).sum()
    }
}

/// 0 for Sunday to 6 for Saturday.
pub(crate) fn weekday(day: i64) -> i64 {
    (day + 4).rem_euclid(7)
}

/// The Mondays up to a day, from some Monday on.
pub(crate) fn week(day: i64) -> i64 {
    (day + 3).div_euclid(7)
}

/// The ISO year and week: a week belongs to the year that its Thursday lies in, and is the so-many
/// Thursday of it.
pub(crate) fn iso_week(day: i64) -> (i64, i64) {
    let thursday = week(day) * 7;
    let (year, ..) = date(thursday);
    (year, (thursday - new_year(year)) / 7 + 1)
}

/// How long a month is, from 1 for January.
pub(crate) fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + days_in_year(year) - 365,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_in_year(year: i64) -> i64 {
    let leap = year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
    if leap { 366 } else { 365 }
}
