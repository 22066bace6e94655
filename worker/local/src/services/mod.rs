//! Our services on the gateway: each reads the wire's input, asks the model, and writes its answer.

pub(crate) mod dynamodb;
pub(crate) mod ec2;
pub(crate) mod ecs;
pub(crate) mod events;
pub(crate) mod launches;
pub(crate) mod logs;
pub(crate) mod metrics;
pub(crate) mod scaling;
pub(crate) mod scheduler;
pub(crate) mod sqs;
pub(crate) mod ssm;

/// A page token is the key of the last item shown: stable while items come and go.
pub(crate) fn page<T>(
    items: Vec<T>,
    key: impl Fn(&T) -> &str,
    after: Option<&str>,
    limit: usize,
) -> (Vec<T>, Option<String>) {
    let mut page: Vec<T> =
        items.into_iter().filter(|item| after.is_none_or(|after| key(item) > after)).collect();
    let more = page.len() > limit;
    page.truncate(limit);
    let token = if more { page.last().map(|item| key(item).to_owned()) } else { None };
    (page, token)
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn pages_follow_one_another_without_a_gap() {
        let all = vec!["a", "b", "c"];
        let (first, token) = page(all.clone(), |it| it, None, 2);
        assert_eq!((first, token.as_deref()), (vec!["a", "b"], Some("b")));
        assert_eq!(page(all, |it| it, Some("b"), 2), (vec!["c"], None));
    }
}
