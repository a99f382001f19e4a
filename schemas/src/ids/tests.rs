#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

#[test]
fn imeis_of_the_standard_and_their_neighbours() {
    // 3GPP TS 23.003's kind of example, and the usual one of the literature.
    for good in ["490154203237518", "352099001761481", "000000000000018"] {
        assert_eq!(good.parse::<Imei>().unwrap().to_string(), good);
    }
    for (bad, why) in [
        ("", ImeiError::Length),
        ("49015420323751", ImeiError::Length),
        ("4901542032375180", ImeiError::Length),
        ("49015420323751x", ImeiError::Digit),
        ("+49015420323751", ImeiError::Digit),
        ("490154203237519", ImeiError::CheckDigit),
        ("000000000000000", ImeiError::Length),
    ] {
        assert_eq!(bad.parse::<Imei>(), Err(why), "{bad:?}");
    }
    assert_eq!(Imei::new(0), Err(ImeiError::Length));
    assert_eq!(Imei::new(u64::MAX), Err(ImeiError::Length));
}

#[test]
fn names_are_short_and_plain() {
    for good in ["a", "bs0001", "a-1", "-", &"x".repeat(32)] {
        assert_eq!(StationId::new(good).unwrap().as_str(), good);
    }
    for bad in ["", "BS1", "bs 1", "bs/1", "bs+", "遵义", &"x".repeat(33)] {
        assert!(StationId::new(bad).is_err(), "{bad:?}");
    }
    assert!(Region::new(&"x".repeat(16)).is_ok());
    assert!(Region::new(&"x".repeat(17)).is_err());
}

#[test]
fn an_error_shows_a_shortened_name() {
    let error = StationId::new(&"遵".repeat(1000)).unwrap_err().to_string();
    assert_eq!(error, format!("station {:?} is not 1 to 32 of a-z, 0-9 and -", "遵".repeat(40)));
}

proptest! {
    #[test]
    fn an_imei_made_of_any_body_is_one_and_reads_back(body: u64) {
        let imei = Imei::from_body(body);
        prop_assert_eq!(Imei::new(imei.get()), Ok(imei));
        prop_assert_eq!(imei.to_string().parse(), Ok(imei));
    }

    #[test]
    fn one_wrong_digit_is_always_found(body: u64, place in 0_u32..15, by in 1_u64..10) {
        let imei = Imei::from_body(body).get();
        let unit = 10_u64.pow(place);
        let digit = imei / unit % 10;
        let wrong = imei - digit * unit + (digit + by) % 10 * unit;
        prop_assert!(Imei::new(wrong).is_err());
    }

    #[test]
    fn arbitrary_texts_never_panic(text in "\\PC{0,40}") {
        let _any = text.parse::<Imei>();
        prop_assert_eq!(StationId::new(&text).is_ok_and(|s| s.as_str() != text), false);
        prop_assert_eq!(Region::new(&text).is_ok_and(|s| s.as_str() != text), false);
    }
}
