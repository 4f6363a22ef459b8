//! What is asked of this part of the plane.
