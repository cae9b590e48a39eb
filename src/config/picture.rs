//! How the camera's picture is seen: `rotate`, `flip`, `masks`, `smallest_face`.

use serde::{Deserialize, Deserializer, de::Error as _};

/// A turn clockwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub enum Rotation {
    #[default]
    None,
    /// 90 degrees.
    Quarter,
    /// 180 degrees.
    Half,
    /// 270 degrees.
    ThreeQuarters,
}

impl TryFrom<i64> for Rotation {
    type Error = String;

    fn try_from(degrees: i64) -> Result<Self, String> {
        match degrees {
            0 => Ok(Self::None),
            90 => Ok(Self::Quarter),
            180 => Ok(Self::Half),
            270 => Ok(Self::ThreeQuarters),
            _ => Err(format!("{degrees} is not 0, 90, 180 or 270 degrees, clockwise")),
        }
    }
}

/// A mirror, as some cameras hang behind one or upside down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Flip {
    /// Left becomes right.
    Horizontal,
    /// Top becomes bottom.
    Vertical,
}

impl TryFrom<String> for Flip {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.as_str() {
            "horizontal" => Ok(Self::Horizontal),
            "vertical" => Ok(Self::Vertical),
            _ => Err(format!("{name:?} is neither \"horizontal\" nor \"vertical\"")),
        }
    }
}

/// Masks of one camera, at most.
const POLYGONS: usize = 32;
/// Corners of one, at most.
const CORNERS: usize = 64;

/// Three to 64 corners, each from 0 to 1 of the picture's width and height.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Vec<[f64; 2]>")]
pub struct Polygon(Vec<[f64; 2]>);

impl Polygon {
    /// Across and down.
    pub fn points(&self) -> &[[f64; 2]] {
        &self.0
    }
}

impl TryFrom<Vec<[f64; 2]>> for Polygon {
    type Error = String;

    fn try_from(points: Vec<[f64; 2]>) -> Result<Self, String> {
        let corners = points.len();
        if !(3..=CORNERS).contains(&corners) {
            return Err(format!("a mask has {corners} corners; it may have 3 to {CORNERS}"));
        }
        // `contains` is false for NaN too.
        match points.iter().flatten().find(|place| !(0.0..=1.0).contains(*place)) {
            Some(place) => Err(format!(
                "a corner of a mask is at {place}; corners are fractions of the picture's width and height, from 0 to 1"
            )),
            None => Ok(Self(points)),
        }
    }
}

pub(super) fn masks<'de, D: Deserializer<'de>>(de: D) -> Result<Vec<Polygon>, D::Error> {
    let masks = Vec::<Polygon>::deserialize(de)?;
    if masks.len() <= POLYGONS {
        Ok(masks)
    } else {
        Err(D::Error::custom(format!("{} masks are more than {POLYGONS}", masks.len())))
    }
}

pub(super) fn smallest_face<'de, D: Deserializer<'de>>(de: D) -> Result<Option<u32>, D::Error> {
    let side = u32::deserialize(de)?;
    if (16..=4096).contains(&side) {
        Ok(Some(side))
    } else {
        Err(D::Error::custom(format!("a smallest face of {side} pixels is not within 16 to 4096")))
    }
}
