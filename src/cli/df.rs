//! `loom df`.

use super::show::{Look, short_id};
use super::table::{Column, draw};
use super::units::bytes;
use super::{Answer, Failure, Run, json};
use crate::protos::admin::{DiskUsage, HomeUsage};

impl Run<'_> {
    pub(super) async fn df(&mut self) -> Result<Answer, Failure> {
        let (rows, homes) = self.client.disk_usage().await?;
        if self.json {
            return json::answer(&json::Disk::new(&rows, &homes));
        }
        Ok(Answer::of(format!("{}\n{}", things(&self.look, rows), places(&self.look, &homes))))
    }
}

/// What each thing takes, what takes most of its own first.
fn things(look: &Look, mut rows: Vec<DiskUsage>) -> String {
    rows.sort_by_key(|row| std::cmp::Reverse(row.size.as_ref().map(|size| (size.exclusive, size.shared))));
    let columns = [
        Column::Whole("KIND"),
        Column::Title("NAME"),
        Column::Size("OWN"),
        Column::Size("SHARED"),
        Column::Size("LIMIT"),
    ];
    let rows = rows.iter().map(|row| {
        let name = if row.name.is_empty() { short_id(&row.id) } else { &row.name };
        let elsewhere = row.kind == "container" && row.namespace != look.namespace;
        let name = if elsewhere { format!("{}/{name}", row.namespace) } else { name.to_owned() };
        let size = |part: fn(&crate::protos::admin::Size) -> u64| {
            row.size.as_ref().map_or_else(|| "-".to_owned(), |size| bytes(part(size)))
        };
        let limit = if row.limit == 0 { "-".to_owned() } else { bytes(row.limit) };
        vec![row.kind.clone(), name, size(|size| size.exclusive), size(|size| size.shared), limit]
    });
    draw(look, &columns, rows.collect())
}

/// What each place holds, each byte once.
fn places(look: &Look, homes: &[HomeUsage]) -> String {
    let columns = [
        Column::Name("PLACE"),
        Column::Size("LAYERS"),
        Column::Size("TRASH"),
        Column::Size("USED"),
        Column::Size("FREE"),
        Column::Size("SIZE"),
    ];
    let rows = homes.iter().map(|home| {
        let reached = |count| format!("{}{}", if home.partial { "≥ " } else { "" }, bytes(count));
        vec![
            home.path.clone(),
            reached(home.layers),
            reached(home.trash),
            bytes(home.used),
            bytes(home.free),
            bytes(home.size),
        ]
    });
    draw(look, &columns, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protos::admin::Size;

    #[test]
    fn the_largest_comes_first_and_what_is_not_known_last() {
        let row = |name: &str, size: Option<(u64, u64)>, limit| DiskUsage {
            kind: "container".into(),
            name: name.into(),
            namespace: "default".into(),
            size: size.map(|(exclusive, shared)| Size { exclusive, shared, ..Size::default() }).into(),
            limit,
            ..DiskUsage::default()
        };
        let rows = vec![
            row("new", None, 0),
            row("small", Some((4096, 1 << 20)), 0),
            row("web", Some((5 << 20, 0)), 10 << 30),
        ];
        assert_eq!(
            things(&Look::plain(), rows),
            "KIND        NAME       OWN   SHARED   LIMIT\n\
             container   web     5.2 MB      0 B   10 GB\n\
             container   small   4.0 KB   1.0 MB       -\n\
             container   new          -        -       -\n"
        );
    }

    #[test]
    fn what_was_not_measured_to_its_end_is_marked() {
        let home =
            HomeUsage { path: "/pool".into(), layers: 1_000_000, partial: true, ..HomeUsage::default() };
        assert!(places(&Look::plain(), &[home]).contains("≥ 1.0 MB"));
    }
}
