//! Points and boxes in a frame's pixels: x to the right, y down, origin at the top left corner.

/// A point, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    pub x: f32,
    pub y: f32,
}

/// A box: its top left corner, width and height, in pixels. It may reach beyond the frame.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BoundingBox {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

impl BoundingBox {
    pub fn center(&self) -> Point {
        Point { x: self.x + self.width / 2.0, y: self.y + self.height / 2.0 }
    }

    pub fn area(&self) -> f32 {
        self.width.max(0.0) * self.height.max(0.0)
    }

    /// Intersection over union, 0 to 1.
    pub fn overlap(&self, other: &Self) -> f32 {
        let width = (self.x + self.width).min(other.x + other.width) - self.x.max(other.x);
        let height = (self.y + self.height).min(other.y + other.height) - self.y.max(other.y);
        if width <= 0.0 || height <= 0.0 {
            return 0.0;
        }
        let common = width * height;
        common / (self.area() + other.area() - common)
    }
}

/// A face as a detector finds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectedFace {
    pub bounds: BoundingBox,
    /// The detector's confidence, 0 to 1.
    pub score: f32,
    /// In this order: the eye at the left of the picture, the eye at its right, the nose tip, the
    /// corner of the mouth at the left of the picture, the one at its right.
    pub landmarks: [Point; 5],
}
