//! The router, and beside it which operations it has, so that the document that describes them can be
//! held against it.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, get, post};

use super::App;

/// Routes, and their operations in the order in which they were added.
pub(super) struct Routes {
    router: Router<App>,
    operations: Vec<(&'static str, &'static str)>,
}

impl Routes {
    pub(super) fn new() -> Self {
        Self { router: Router::new(), operations: Vec::new() }
    }

    /// A handler for `GET`, and `HEAD` with it.
    pub(super) fn get<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.on(path, &["GET"], get(handler))
    }

    /// A handler for `POST`.
    pub(super) fn post<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        self.on(path, &["POST"], post(handler))
    }

    /// Handlers for these methods of a path.
    pub(super) fn on(
        mut self,
        path: &'static str,
        methods: &[&'static str],
        handlers: MethodRouter<App>,
    ) -> Self {
        self.operations.extend(methods.iter().map(|method| (*method, path)));
        Self { router: self.router.route(path, handlers), operations: self.operations }
    }

    /// Method and path of every operation.
    #[cfg(test)]
    pub(super) fn operations(&self) -> &[(&'static str, &'static str)] {
        &self.operations
    }

    pub(super) fn into_router(self) -> Router<App> {
        self.router
    }
}
